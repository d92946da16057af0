"""The result of a run: a report of every task, and scores where solutions are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arc_kaggle.candidate import Prediction
from arc_kaggle.journal import Journal
from arc_kaggle.report import StageRun, TaskReport, score_lines, scores_json, table, task_report, task_run
from arc_kaggle.submission import Attempts
from arc_kaggle.task import Task


@dataclass(frozen=True, slots=True)
class SolveResult:
    """The finished run: reports in the order of the tasks, scores where solutions are known, seconds in all."""

    reports: tuple[TaskReport, ...]
    scores: dict[str, Any]
    seconds: float
    trouble: str = ""
    """What could not be written, and why; empty where all was."""
    engine: str = ""
    """Which engine answered, and why that one."""

    @property
    def text(self) -> str:
        parts = (f"{table(self.reports)}\n", score_lines(self.scores), self.engine, self.trouble)
        return "\n".join(part for part in parts if part)


def result_of(
    tasks: Sequence[Task],
    journal: Journal,
    attempts: Mapping[str, Sequence[Attempts]],
    unfinished: Mapping[str, str],
    ended: Mapping[str, str],
    seconds: float,
) -> SolveResult:
    """What a run came to. `unfinished` has the stages that its end cut short, `ended` why nothing more was started."""
    predictions = {task.id: journal.predictions_of(task.id) for task in tasks}
    by_task: dict[str, list[StageRun]] = {task.id: [] for task in tasks}
    for stage in journal.stages:
        by_task[stage.job.task_id].append(stage)
    reports = []
    for task in tasks:
        stages, cut = by_task[task.id], unfinished.get(task.id)
        failure = f"cut short in {cut}" if cut else stages[-1].lost if stages else ""
        run = task_run(task.id, stages, _reasons(predictions[task.id]))
        begun = Counter((stage.job.stage, stage.job.views) for stage in stages)
        tries = max(begun.values(), default=1 if cut else 0)
        reports.append(
            task_report(task, attempts[task.id], predictions, run, tries, failure, stages, ended.get(task.id, ""))
        )
    return SolveResult(tuple(reports), scores_json(attempts, predictions, tasks), seconds, journal.trouble)


def _reasons(predictions: Sequence[Prediction]) -> Counter[str]:
    return Counter(prediction.reason or "answered" for prediction in predictions)
