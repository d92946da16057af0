"""Which workers a run has, and how each is started."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from arc_kaggle.config import SolveConfig, config_to_json
from arc_kaggle.memory import memory_ceiling
from arc_kaggle.workers.base import Inbox, Worker, environment, visible_gpus
from arc_kaggle.workers.child import ChildWorker
from arc_kaggle.workers.inprocess import InProcessWorker
from arc_kaggle.workers.remote import RayWorker, connect


def count_workers(config: SolveConfig) -> int:
    """As many as asked for; else one for each GPU that can be seen, and one where there is none.

    On a cluster one for each of its GPUs, and one a node where there is none.
    """
    if config.workers:
        return config.workers
    if config.ray_address:
        has = connect(config.ray_address)
        return int(has.get("GPU", 0) or has["nodes"])
    return len(visible_gpus(config.device)) or 1


def scratch_of(config: SolveConfig, name: str) -> Path:
    """The folder of adapters and caches; one that the same run finds again where none is named."""
    return (config.scratch or Path(tempfile.gettempdir()) / "arc_kaggle") / name


def ceiling_of(config: SolveConfig) -> float:
    """Bytes of host memory that all workers together may hold."""
    return memory_ceiling() if config.memory_gb is None else config.memory_gb * 1e9


def starter(config: SolveConfig, scratch: Path) -> Callable[[int, Inbox], Worker]:
    """What starts the worker of a number, whose messages go into an inbox."""
    first = {"config": config_to_json(config), "scratch": str(scratch)}
    n_workers, gpus = count_workers(config), visible_gpus(config.device)
    if config.ray_address:
        has = connect(config.ray_address)
        cores, share = max(1, int(has["CPU"]) // n_workers), min(1.0, has.get("GPU", 0) / n_workers)
        ceiling = None if config.memory_gb is None else config.memory_gb * 1e9
        return lambda number, inbox: RayWorker(number, inbox, first, cores, share, ceiling)

    def start(number: int, inbox: Inbox) -> Worker:
        if config.in_process:
            return InProcessWorker(number, inbox, first)
        log = config.out / f"worker{number or ''}.log"
        return ChildWorker(number, inbox, first, environment(number, n_workers, gpus, scratch), log)

    return start
