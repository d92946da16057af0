"""What the supervisor of a run costs for each task, and whether it ends on time, up to 10,000 tasks and 64 workers.

    python benchmarks/scale.py [--tasks 100 400 1000 3000 10000] [--workers 64] [--minutes 0.5] [--out FILE]

Tasks are made up, with three train pairs of 3 to 15 cells a side. Workers are threads that wait so long for each job
and then answer each view by the test input: all that is measured is the supervisor's own work, in one process. Every
run has the same time limit. Prints a line for each number of tasks: seconds until a valid submission was there, from
the call of `solve` on, and from the start of the command `arc-kaggle solve` on (the least of three tries); seconds over
the deadline at the end, negative before it; jobs done; and CPU seconds for each task and job, which other processes on
the machine disturb less. Expected: a first submission within 2 s, and no more than 2 s over the deadline. Last comes
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.messages import Done, Inbox, Order, PredictionFound, Ready, Setup
from arc_kaggle.run.solve import solve
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.dataset import load_tasks

JOB_SECONDS = 0.05
"""What a worker waits for each job."""


class WaitingWorker:
    """A thread that waits, and then answers every view of a job by the test input."""

    def __init__(self, number: int, inbox: Inbox, setup: Setup) -> None:
        self.number, self.inbox = number, inbox
        self.orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        inbox.put((self, Ready(0.0)))
        threading.Thread(target=self._work, daemon=True).start()

    def send(self, order: Order) -> None:
        self.orders.put(order)

    def _work(self) -> None:
        while order := self.orders.get():
            time.sleep(JOB_SECONDS)
            task_id = order.job.task_id
            for query, pair in enumerate(order.task.test):
                for view in range(*order.job.views):
                    found = Prediction(task_id, query, view, Augmentation(), "", pair.input, None, -1.0, 9)
                    self.inbox.put((self, PredictionFound(found)))
            self.inbox.put((self, Done(JOB_SECONDS)))

    def held_bytes(self) -> int:
        return 0

    def kill(self) -> None:
        self.orders.put(None)


def write_tasks(path: Path, n_tasks: int) -> None:
    rng = np.random.default_rng(0)

    def grid() -> list[list[int]]:
        cells: list[list[int]] = rng.integers(10, size=rng.integers(3, 16, size=2)).tolist()
        return cells

    def task() -> dict[str, Any]:
        train = [{"input": grid(), "output": grid()} for _ in range(3)]
        return {"train": train, "test": [{"input": grid(), "output": grid()}]}

    path.write_text(json.dumps({f"task-{i:05}": task() for i in range(n_tasks)}), encoding="utf-8")


def measure(n_tasks: int, n_workers: int, minutes: float) -> dict[str, float]:
    """One run; the submission is read again in the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(folder / "tasks.json", n_tasks)
        config = SolveConfig(
            str(folder / "tasks.json"),
            folder / "out",
            engine="fake",
            recipe="none",
            workers=n_workers,
            time_limit_minutes=minutes,
            generate=GenerateConfig(n_views=4),
            first_views=2,
            scratch=folder / "scratch",
        )
        first, over = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(config.out / "submission.json", first, over))
        started, cpu = time.monotonic(), time.process_time()
        watcher.start()
        result = solve(config, start=WaitingWorker)
        seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
        over.set()
        watcher.join()
        read_submission(config.out / "submission.json", load_tasks(config.tasks))
        n_jobs = sum(len(report.stages) for report in result.reports)
        by_command = [seconds_by_command(config.tasks, folder / f"command-{i}") for i in range(3)]
    return {
        "tasks": n_tasks,
        "first_submission_s": round(first[0] - started, 2),
        "first_submission_of_command_s": round(min(by_command), 2),
        "seconds": round(seconds, 1),
        "over_deadline_s": round(seconds - 60 * minutes, 2),
        "jobs": n_jobs,
        "answered": result.n_answered,
        "cpu_s": round(cpu_seconds, 1),
        "cpu_ms_a_task": round(1000 * cpu_seconds / n_tasks, 2),
        "cpu_ms_a_job": round(1000 * cpu_seconds / max(1, n_jobs), 2),
    }


def seconds_by_command(tasks: str, out: Path) -> float:
    """Seconds from the start of the command to its first submission; it is ended then."""
    words = ("--tasks", tasks, "--out", str(out), "--engine", "fake", "--recipe", "none", "--time-limit-minutes", "1")
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "arc_kaggle.cli", "solve", *words], stderr=subprocess.DEVNULL
    ) as process:
        while not (out / "submission.json").exists():
            time.sleep(0.01)
        seconds = time.monotonic() - started
        process.kill()
    return seconds


def _watch(path: Path, first: list[float], over: threading.Event) -> None:
    while not over.wait(0.01):
        if path.exists():
            first[0] = time.monotonic()
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[100, 400, 1000, 3000, 10000])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="file for the JSON object, too")
    parser.add_argument("--commit", default="", help="of this result")
    options = parser.parse_args()
    rows = []
    for n_tasks in options.tasks:
        rows.append(measure(n_tasks, options.workers, options.minutes))
        print("  ".join(f"{name} {value:g}" for name, value in rows[-1].items()), flush=True)
    result = {
        "benchmark": "scale",
        "commit": options.commit,
        "workers": options.workers,
        "minutes": options.minutes,
        "job_seconds": JOB_SECONDS,
        "rows": rows,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
