"""Whole runs for tests: tasks on disk, children that fail as told, processes that are watched."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arc_kaggle.answering.submission import read_submission
from arc_kaggle.commands.solve import NOTHING_ANSWERED
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.task import Task

N_VIEWS = 4
DONE = (0, NOTHING_ANSWERED)
"""Exit codes of a run that was through, whatever its model, which may know nothing, came to."""
FOUR_VIEWS = GenerateConfig(n_views=N_VIEWS)

SITE = """
import fcntl, os, resource, signal, sys, threading, time, types
from pathlib import Path

alive = Path(__file__).with_name(f"{{os.getpid()}}.pid").open("w")
fcntl.flock(alive, fcntl.LOCK_EX)
print(os.getppid(), file=alive, flush=True)
once = Path(__file__).with_name("once")
if "arc_kaggle.run.worker.main" in sys.orig_argv:
    {start}

    import arc_kaggle.run.worker.stages

    do = arc_kaggle.run.worker.stages.Stages._do

    def spoilt(self, order, send):
        job = order.job
        task_id, stage, level, n_events = job.task_id, job.stage, job.level, 0

        def strike(event, view=None):
            nonlocal n_events
            n_events += 1
            prediction = types.SimpleNamespace(task_id=task_id, view=view)
            {spoil}

        def tell(message):
            strike("found", message.value.view)
            send(message)

        strike("begin")
        facts = do(self, order, tell)
        strike("end")
        return facts

    arc_kaggle.run.worker.stages.Stages._do = spoilt
elif {patience!r}:
    from arc_kaggle.run.pool import Pool

    wait = Pool.send
    Pool.send = lambda self, slot, job, order, cap: wait(self, slot, job, order, {patience!r})
if "solve" in sys.orig_argv:
    {supervisor}
elif "train" in sys.orig_argv:
    {trainer}
"""
"""A sitecustomize module. As long as a process lives it holds the lock of its .pid file, which names its parent; a
worker runs `start` as it begins and `spoil` at every event of a job: its `begin`, before each prediction and score that
was `found` is told, and its `end`. `prediction` has the task's id, and the view where there is one. With
`patience` the supervisor ends a stage after so many seconds, however long it may take. `supervisor` and `trainer` are
run as those begin; a trainer is a process of the joint stage."""


def until_ready(out: Path, n_workers: int) -> str:
    """A `spoil` by which no stage goes on before so many workers are ready."""
    n_ready = f"Path({str(out / 'events.jsonl')!r}).read_text().count('ready')"
    return f"[time.sleep(0.05) for _ in range(2000) if {n_ready} < {n_workers}]"


def task_values(n_tasks: int) -> dict[str, Any]:
    """Kaggle-format tasks t00, t01, ... in the order in which they are solved. The echo engine is right about those of
    even number, the fallback about none; t03, t07, ... have two test inputs, of which the second is echoed rightly.
    """
    values = {}
    for i in range(n_tasks):
        asked = [[5, 6]] * (1 + i)
        wrong = {"input": asked, "output": [[9]]}
        right = {"input": asked, "output": asked}
        train = [{"input": [[1] * (i + 1)], "output": [[2]]}, {"input": [[3]], "output": [[4, 4]]}]
        test = [right] if i % 2 == 0 else [wrong, right] if i % 4 == 3 else [wrong]
        values[f"t{i:02}"] = {"train": train, "test": test}
    return values


def write_tasks(folder: Path, n_tasks: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tasks.json"
    path.write_text(json.dumps(task_values(n_tasks)), encoding="utf-8")
    return path


def fake_config(folder: Path, n_tasks: int = 6, **options: Any) -> SolveConfig:
    """A run of the fake engine over `n_tasks` tasks, into `folder`/out."""
    chosen = {"engine": "fake", "recipe": "none", "generate": FOUR_VIEWS, "scratch": folder / "scratch", **options}
    return SolveConfig(str(write_tasks(folder, n_tasks)), folder / "out", **chosen)


def write_site(folder: Path, spoil: str = "pass", start: str = "pass", patience: float = 0.0, **others: str) -> Path:
    """A folder that makes the processes of whoever has it on PYTHONPATH fail as the statements say."""
    folder.mkdir(parents=True, exist_ok=True)
    statements = {"spoil": spoil, "start": start, "supervisor": "pass", "trainer": "pass", **others}
    (folder / "sitecustomize.py").write_text(SITE.format(patience=patience, **statements), encoding="utf-8")
    return folder


def score_by_hand(submission: Path, tasks: Path) -> float:
    """Kaggle's score from the two JSON files alone: it shares nothing with the package."""
    answers = json.loads(submission.read_text())
    points = []
    for task_id, task in json.loads(tasks.read_text()).items():
        for said, pair in zip(answers[task_id], task["test"], strict=True):
            points.append(pair["output"] in (said["attempt_1"], said["attempt_2"]))
    return sum(points) / len(points)


def read_report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def count_predictions(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (out / "predictions").glob("*.jsonl"))


def wait_until(is_so: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `is_so` gives as soon as that is true; fails when it takes too long."""
    until = time.monotonic() + seconds
    while not (value := is_so()):
        assert time.monotonic() < until, f"nothing after {seconds} s"
        time.sleep(0.005)
    return value


def hear_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Run:
    """`arc-kaggle solve` in a process of its own. From its first second on submission.json is read again and again."""

    def __init__(self, folder: Path, *options: str, n_tasks: int = 6, **spoilt: Any) -> None:
        self.tasks_path, self.out, self.site = write_tasks(folder, n_tasks), folder / "out", folder / "site"
        self.tasks: tuple[Task, ...] = load_tasks(self.tasks_path)
        write_site(self.site, **spoilt)
        words = ["--tasks", str(self.tasks_path), "--out", str(self.out), "--scratch", str(folder / "scratch")]
        words += ["--generate.n-views", str(N_VIEWS), *options]
        path = os.pathsep.join([str(self.site), str(Path(__file__).parents[1])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "arc_kaggle.cli", "solve", *words],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=hear_interrupts,
        )
        self.errors: list[Exception] = []
        self.n_reads = 0
        self.over = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        seen = False
        while not self.over.wait(0.005):
            seen = seen or (self.out / "submission.json").exists()
            try:
                if seen:
                    read_submission(self.out / "submission.json", self.tasks)
                    self.n_reads += 1
            except Exception as error:
                self.errors.append(error)

    def child(self) -> int:
        """The worker's process id, as soon as there is one."""
        found: list[int] = wait_until(lambda: [pid for pid in self._living() if self._parent(pid) == self.process.pid])
        return found[0]

    def _parent(self, pid: int) -> int:
        return int((self.site / f"{pid}.pid").read_text() or -1)

    def _living(self) -> list[int]:
        return [int(path.stem) for path in self.site.glob("*.pid") if self.is_alive(int(path.stem))]

    def is_alive(self, pid: int) -> bool:
        """Whether a process of this run lives, by the lock that it holds; a zombie holds none."""
        with (self.site / f"{pid}.pid").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code."""
        self.output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode


def tiny_model(folder: Path) -> tuple[str, ...]:
    """Options for a model with random weights that is tuned a little on every task, by one worker."""
    from arc_kaggle.models.loading import save_model
    from arc_kaggle.models.new_model import new_grid_model

    save_model(new_grid_model(64, 2, 0), folder, "box", {})
    tuning = ("--tune.weights", "all", "--tune.steps", "2", "--tune.batch-size", "2", "--precision", "fp32")
    return ("--model", str(folder), "--workers", "1", *tuning)


@contextmanager
def running(folder: Path, *options: str, **spoilt: Any) -> Iterator[Run]:
    """A run that is ended with the block, and whose submission was valid whenever it was read."""
    run = Run(folder, *options, **spoilt)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()
        run.over.set()
        run.reader.join()
    assert not run.errors
    if (run.out / "predictions").exists() and run.n_reads:
        read_submission(run.out / "submission.json", run.tasks)
