"""A worker in the test's own process: no protection, but a debugger and a coverage tool can see into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.messages import Inbox, Order, Setup, Start
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.solve import solve
from arc_kaggle.run.worker.main import WorkerServer


class InProcessWorker:
    """Does a job while it is handed over."""

    def __init__(self, number: int, inbox: Inbox, setup: Setup) -> None:
        self.number = number
        self.server = WorkerServer(setup, lambda message: inbox.put((self, message)))

    def send(self, order: Order) -> None:
        self.server.do(order)

    def held_bytes(self) -> int:
        return 0

    def kill(self) -> None:
        pass


def solve_here(
    config: SolveConfig, clock: Callable[[], float] = time.monotonic, start: Start = InProcessWorker
) -> SolveResult:
    """`solve` with one worker, and no child process."""
    return solve(replace(config, workers=1), clock, start)


def workers_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every run has its workers here, commands' runs too: a child takes seconds to import torch."""
    monkeypatch.setattr("arc_kaggle.run.launch.start._start_child", lambda *_: InProcessWorker)
