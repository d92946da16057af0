"""The seam between the supervisor and whoever does its jobs: `Worker`, its messages, and its share of the machine."""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from arc_kaggle.system.hardware import n_cores

Message = Mapping[str, Any]
"""JSON values, explained in worker.py. `gone` with a `reason` is the last one of a worker that has ended."""


class Worker(Protocol):
    """Takes one job at a time; its messages go into the inbox that it was started with."""

    number: int

    def send(self, message: Message) -> None:
        """Hand over a job; never waits."""
        ...

    def held_bytes(self) -> int:
        """Memory of the host that it holds."""
        ...

    def kill(self) -> None:
        """End it now, whatever it is doing."""
        ...


Inbox = queue.SimpleQueue[tuple[Worker, Message]]


def environment(number: int, n_workers: int, gpus: Sequence[str], scratch: Path, n_each: int = 1) -> dict[str, str]:
    """What a worker must find set before it imports anything: its `n_each` GPUs, its cores, and caches that no other
    writes.
    """
    caches = {name: str(scratch / f"worker-{number}" / name.lower()) for name in CACHES}
    first = n_each * (number % max(1, len(gpus) // n_each))
    gpu = {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first : first + n_each])} if gpus else {}
    if n_workers == 1:
        return {**OFFLINE, **caches, **gpu}
    return {**OFFLINE, **caches, **gpu, **dict.fromkeys(THREADS, str(max(1, n_threads() // n_workers)))}


def n_threads() -> int:
    """Cores that all workers together may use: OMP_NUM_THREADS where it is set."""
    return int(os.environ.get("OMP_NUM_THREADS") or n_cores())


OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "VLLM_CACHE_ROOT")
"""Where compilers keep what they made; two that write one folder at once break each other."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
