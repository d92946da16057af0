"""The supervisor: owns submission.json and the deadline, never imports torch, and survives its workers."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import Prediction, read_predictions
from arc_kaggle.child import LOG_NAME, ChildWorker, InProcessWorker, Worker, WorkerLost
from arc_kaggle.config import SolveConfig, config_to_json
from arc_kaggle.dataset import load_tasks, prompt_length
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.report import TaskReport, TaskRun, score_lines, scores_json, table, task_report
from arc_kaggle.submission import SubmissionFile, vote_task, write_atomically
from arc_kaggle.task import Task, task_to_json

CLOSING_SECONDS = 5.0
"""Seconds before the deadline at which workers are told to end; at half of it they are killed."""
START_SECONDS = 300.0
"""Most seconds for a worker to load its model."""
GRACE_SECONDS = 60.0
"""Seconds past a task's own caps after which its worker counts as hung."""


@dataclass(frozen=True, slots=True)
class SolveResult:
    """The finished run: reports in the order of the tasks, scores where solutions are known, seconds in all."""

    reports: tuple[TaskReport, ...]
    scores: dict[str, Any]
    seconds: float

    @property
    def text(self) -> str:
        return f"{table(self.reports)}\n\n{score_lines(self.scores)}"


def solve(config: SolveConfig, clock: Callable[[], float] = time.monotonic) -> SolveResult:
    """Solve tasks as configured; submission.json in `config.out` is valid from the first second on.

    `clock` gives the seconds that the deadline is read by. Raises ArcKaggleError subclasses for bad input.
    """
    started = clock()
    deadline = Deadline(started + 60 * config.time_limit_minutes, clock)
    tasks = load_tasks(config.tasks, config.select)
    prepare_folder(config)
    supervisor = Supervisor(config, tasks, deadline)
    try:
        supervisor.run()
    finally:
        result = supervisor.finish(clock() - started)
    return result


def prepare_folder(config: SolveConfig) -> None:
    """Make the output folder. Raises ConfigError where an earlier run left results and `overwrite` is not set."""
    predictions = config.out / "predictions"
    if predictions.exists() and not config.overwrite:
        raise ConfigError(
            f"folder {config.out}: found the results of an earlier run; take another --out, or --overwrite"
        )
    shutil.rmtree(predictions, ignore_errors=True)
    try:
        for name in ("report.json", LOG_NAME):
            (config.out / name).unlink(missing_ok=True)
        predictions.mkdir(parents=True)
        write_atomically(config.out / "config.json", json.dumps(config_to_json(config), indent=1))
    except OSError as error:
        raise ConfigError(f"folder {config.out}: cannot be written to ({error.strerror})") from error


class Supervisor:
    """Sends tasks to a worker, shortest prompts first, and answers for whatever becomes of it."""

    def __init__(self, config: SolveConfig, tasks: Sequence[Task], deadline: Deadline) -> None:
        self.config, self.tasks, self.deadline = config, tasks, deadline
        self.by_id = {task.id: task for task in tasks}
        self.submission = SubmissionFile(config.out / "submission.json", tasks)
        self.predictions: dict[str, list[Prediction]] = {}
        self.runs: dict[str, TaskRun] = {}
        self.tries: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        ordered = sorted(tasks, key=lambda task: (prompt_length(task), task.id))
        self.bar = tqdm(total=len(tasks), desc="solve", unit="task", disable=None)  # shown on terminals alone
        together = config.tune.weights == "none" or config.engine == "fake"
        self.waiting = deque([list(ordered)] if together else [[task] for task in ordered])

    def run(self) -> None:
        """Until every task is through, or the deadline. Raises WorkerError where a worker cannot be started."""
        failed_starts = 0
        while self.waiting and not self._closing:
            worker: Worker = InProcessWorker(self.config) if self.config.in_process else ChildWorker(self.config)
            try:
                self._serve(worker)
            except WorkerLost as lost:
                failed_starts = 0 if lost.was_ready else failed_starts + 1
                if failed_starts == self.config.max_tries and not self._closing:
                    raise WorkerError(f"the worker could not start: {lost}") from lost
            finally:
                worker.kill()

    @property
    def _closing(self) -> bool:
        return self.deadline.seconds_left <= CLOSING_SECONDS

    def _serve(self, worker: Worker) -> None:
        """Feed one worker as long as it lives. Raises WorkerLost."""
        self._await(worker, "ready", START_SECONDS)
        while self.waiting and not self._closing:
            group = self.waiting.popleft()
            self.tries.update(task.id for task in group)
            try:
                self._run_group(worker, group)
            except WorkerLost as lost:
                self._requeue([task for task in group if task.id not in self.runs], str(lost))
                raise

    def _run_group(self, worker: Worker, group: list[Task]) -> None:
        visible = {task.id: task_to_json(task.without_solution()) for task in group}
        worker.send({"tasks": visible, "seconds_left": self.deadline.seconds_left - CLOSING_SECONDS})
        caps = self.config.tune.max_seconds + self.config.generate.max_seconds
        self._await(worker, "job", caps * len(group) + GRACE_SECONDS)

    def _requeue(self, tasks: list[Task], what: str) -> None:
        """Tasks that a lost worker left behind: one by one, behind the others, `max_tries` times in all."""
        self._vote(tasks)
        for task in tasks:
            self.failures[task.id] = what
            if self.tries[task.id] < self.config.max_tries:
                self.waiting.append([task])

    def _await(self, worker: Worker, event: str, seconds: float) -> None:
        """Take in messages until `event`. Raises WorkerLost for a worker that is gone or silent for too long."""
        until = self.deadline.earlier(min(seconds, self.deadline.seconds_left - CLOSING_SECONDS / 2))
        while (message := worker.receive(until))["event"] != event:
            if message["event"] == "task":
                run = TaskRun.from_json(message["run"])
                self.runs[run.task_id] = run
                self.failures.pop(run.task_id, None)
                self._vote([self.by_id[run.task_id]])
                self.bar.update()

    def _vote(self, tasks: Sequence[Task]) -> None:
        """Turn what is on disk for tasks into their attempts; one write for all of them."""
        for task in tasks:
            path = self.config.out / "predictions" / f"{task.id}.jsonl"
            self.predictions[task.id] = read_predictions(path) if path.exists() else []
        self.submission.update({task.id: vote_task(task, self.predictions[task.id]) for task in tasks})

    def finish(self, seconds: float) -> SolveResult:
        """Vote on what an interrupted worker left, write report.json and give the result; callable at any moment."""
        self.bar.close()
        self._vote([task for task in self.tasks if task.id not in self.runs])
        attempts = self.submission.attempts
        reports = tuple(
            task_report(
                task,
                attempts[task.id],
                self.predictions,
                self.runs.get(task.id),
                self.tries[task.id],
                self.failures.get(task.id, ""),
            )
            for task in self.tasks
        )
        result = SolveResult(reports, scores_json(attempts, self.predictions, self.tasks), seconds)
        write_atomically(self.config.out / "report.json", json.dumps(asdict(result), indent=1))
        return result
