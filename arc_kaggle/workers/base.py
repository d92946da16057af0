"""The seam between the supervisor and whoever does its jobs: `Worker`, its messages, and its share of the machine."""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from arc_kaggle.memory import n_cores

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


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs to share out, in the words of CUDA_VISIBLE_DEVICES; none where a run names one itself, or the CPU."""
    if device not in ("auto", "cuda"):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(gpu for gpu in named.split(",") if gpu not in ("", "-1"))
    return tuple(str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))


def environment(number: int, n_workers: int, gpus: Sequence[str], scratch: Path) -> dict[str, str]:
    """What a worker must find set before it imports anything: its GPU, its cores, and caches that no other writes."""
    caches = {name: str(scratch / f"worker-{number}" / name.lower()) for name in CACHES}
    gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
    if n_workers == 1:
        return {**OFFLINE, **caches, **gpu}
    cores = int(os.environ.get("OMP_NUM_THREADS") or n_cores())
    return {**OFFLINE, **caches, **gpu, **dict.fromkeys(THREADS, str(max(1, cores // n_workers)))}


OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "VLLM_CACHE_ROOT")
"""Where compilers keep what they made; two that write one folder at once break each other."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
