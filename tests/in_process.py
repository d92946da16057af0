"""A worker in the test's own process: no protection, but a debugger and a coverage tool can see into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from processes import DONE, N_VIEWS, write_tasks

from arc_kaggle.cli import main
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run import joint
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


def undisturbed(folder: Path, *options: str, n_tasks: int) -> tuple[bytes, Path]:
    """The submission of a run like those of `processes.Run`, with all of it in this process; and the run's plan."""
    words = ["--tasks", str(write_tasks(folder, n_tasks)), "--out", str(folder / "out"), "--workers", "1"]
    words += ["--scratch", str(folder / "scratch"), "--generate.n-views", str(N_VIEWS), *options]
    with pytest.MonkeyPatch.context() as patched:
        workers_in_process(patched)
        joint_stage_in_process(patched)
        assert main(["solve", *words]) in DONE
    return (folder / "out" / "submission.json").read_bytes(), folder / "out" / "plan.json"


class TrainedHere:
    """A training of the joint stage that is through when it is begun."""

    def __init__(self, stage: joint.JointStage) -> None:
        self.code = main(["train", *stage.options()])

    def poll(self) -> int:
        return self.code

    def kill(self) -> None:
        pass

    def wait(self) -> None:
        pass


def joint_stage_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint.JointStage, "_start", lambda self, environment, log: TrainedHere(self))


def few_joint_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The joint stage ends after a few small steps in one process, each with a checkpoint."""
    for name, value in {"STEPS": 4, "SAVE_EVERY": 1, "TOKENS_PER_STEP": 256}.items():
        monkeypatch.setattr(joint, name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
