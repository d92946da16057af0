"""Which workers a run has, and how each is started."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from arc_kaggle.config.model import is_small
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.folder import digest_of_run
from arc_kaggle.run.launch.child import ChildWorker
from arc_kaggle.run.launch.ray import RayWorker, connect
from arc_kaggle.run.messages import Inbox, Setup, Start, Worker
from arc_kaggle.run.pool import Crew
from arc_kaggle.system.hardware import memory_ceiling, visible_gpus
from arc_kaggle.system.processes import worker_environment
from arc_kaggle.system.threads import n_threads

WORKER_BYTES = 2**30
"""Memory of the host for a worker of a small model."""


def count_workers(config: SolveConfig) -> int:
    """As many as asked for; else one for each GPU that can be seen.

    Where there is none it is one, or for a small model one for each core. On a cluster one for each of its GPUs, and
    one a node where there is none.
    """
    if config.workers:
        return config.workers
    if config.ray_address:
        has = connect(config.ray_address)
        return int(has.get("GPU", 0) or has["nodes"])
    if gpus := visible_gpus(config.device):
        return max(1, len(gpus) // gpus_each(config))
    return _count_on_cores(config)


def _count_on_cores(config: SolveConfig) -> int:
    in_torch = config.engine in ("auto", "hf", "micro") and config.device in ("auto", "cpu")
    if not (in_torch and is_small(config.model)):
        return 1
    return int(max(1, min(n_threads(), ceiling_of(config) // WORKER_BYTES)))


def gpus_each(config: SolveConfig) -> int:
    """GPUs of a worker: two where vLLM has one of its own."""
    return 2 if config.engine == "vllm" and config.vllm.placement == "apart" else 1


def scratch_of(config: SolveConfig, name: str) -> Path:
    """The folder of adapters and caches; one that the same run finds again where none is named."""
    return (config.scratch or Path(tempfile.gettempdir()) / "arc_kaggle") / name


def ceiling_of(config: SolveConfig) -> float:
    """Bytes of host memory that all workers together may hold."""
    return memory_ceiling() if config.memory_gb is None else config.memory_gb * 1e9


def gather_crew(config: SolveConfig, start: Start | None, changes: Mapping[str, Any]) -> Crew:
    """The workers of a run, with some options changed; they begin by `start` where it is given, else as these say."""
    n_workers, scratch = count_workers(config), scratch_of(config, digest_of_run(config))
    setup = Setup(replace(config, workers=n_workers, **changes), scratch)
    begin = start or _start_on_cluster(config, n_workers) or _start_child(config, n_workers, scratch)
    return Crew(n_workers, lambda number, inbox: begin(number, inbox, setup), ceiling_of(config), scratch)


def _start_on_cluster(config: SolveConfig, n_workers: int) -> Start | None:
    """None where the options name no cluster."""
    if not config.ray_address:
        return None
    has = connect(config.ray_address)
    cores, share = max(1, int(has["CPU"]) // n_workers), min(1.0, has.get("GPU", 0) / n_workers)
    ceiling = None if config.memory_gb is None else config.memory_gb * 1e9
    return lambda number, inbox, setup: RayWorker(number, inbox, setup, cores, share, ceiling)


def _start_child(config: SolveConfig, n_workers: int, scratch: Path) -> Start:
    gpus = visible_gpus(config.device)

    def start(number: int, inbox: Inbox, setup: Setup) -> Worker:
        log = config.out / f"worker{number or ''}.log"
        return ChildWorker(
            number, inbox, setup, worker_environment(number, n_workers, gpus, scratch, gpus_each(config)), log
        )

    return start
