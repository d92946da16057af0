"""A long run of `solve` is cut into parts. Each has a folder of its own and is done as a whole, whatever is killed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arc_kaggle.answering.candidates import Attempts, Prediction, read_prediction_folder
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.options import flat, names_aside
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.evaluation.columns import Column, judge, view_counts
from arc_kaggle.evaluation.model_folders import ModelFolder
from arc_kaggle.run.messages import Start
from arc_kaggle.run.records import TaskRun
from arc_kaggle.run.report import scores_json
from arc_kaggle.run.solve import solve
from arc_kaggle.system.files import write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.tasks.selection import selection_of
from arc_kaggle.tasks.task import Task, task_to_json

PART_FILE = "part.json"
"""Written into the folder of a part that is through."""
NOT_SETTINGS = ("tasks", "select", "model", "adapter", *names_aside(SolveConfig))
"""Options of `solve` that say where or how long; tasks and model count by their digests instead."""
NO_LIMIT_MINUTES = 60.0 * 24 * 365
"""The time limit of a part. Its end is set by the caps of its tasks alone, so that no clock decides on a score."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some tasks under one model and recipe: a run of `solve`, whose folder is `config.out`."""

    model: ModelFolder
    tasks: tuple[Task, ...]
    config: SolveConfig

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what comes out."""
        options = {name: value for name, value in flat(config_to_json(self.config)).items() if name not in NOT_SETTINGS}
        return {**options, "model": self.model.digest, "tasks": {task.id: task_digest(task) for task in self.tasks}}

    def seconds(self) -> float | None:
        """How long it took; None where it is not through. Raises ConfigError where it was done with other settings."""
        path = self.config.out / PART_FILE
        if not path.is_file():
            return None
        kept = read_json_file(path)
        _check_same(kept["settings"], self.settings, path.parent)
        return float(kept["seconds"])

    def run(self, start: Start | None = None) -> float:
        """Solve the tasks from the beginning; gives the seconds it took.

        Raises WorkerError where its workers answered no task at all: that says nothing of the model.
        """
        started = time.monotonic()
        reports = solve(self.config, start=start).reports
        if not any(report.run for report in reports):
            verdicts = " | ".join(sorted({report.verdict for report in reports}))
            raise WorkerError(
                f"folder {self.config.out}: its workers answered no task, see worker.log: {verdicts:.300}"
            )
        self.model.check_unchanged()
        seconds = time.monotonic() - started
        write_json(self.config.out / PART_FILE, {"settings": self.settings, "seconds": seconds})
        return seconds


def task_digest(task: Task) -> str:
    """Equal for tasks with equal grids, solutions included."""
    return hashlib.sha256(json.dumps(task_to_json(task)).encode()).hexdigest()[:16]


def cut(tasks: Sequence[Task], size: int, model: ModelFolder, template: SolveConfig) -> Iterator[Part]:
    """Parts of `size` tasks in the order of the tasks, in folders part-000, part-001, ... of the template's folder."""
    for number, first in enumerate(range(0, len(tasks), size)):
        some = tuple(tasks[first : first + size])
        folder = template.out / f"part-{number:03}"
        select = selection_of(some)
        config = replace(template, out=folder, select=select, time_limit_minutes=NO_LIMIT_MINUTES, overwrite=True)
        yield Part(model, some, config)


def column_of(parts: Sequence[Part]) -> Column:
    """What the parts of one model and recipe came to, all of them through. Scores are those of `solve`."""
    tasks = [task for part in parts for task in part.tasks]
    attempts: dict[str, list[Attempts]] = {}
    predictions: dict[str, list[Prediction]] = {}
    runs: list[TaskRun | None] = []
    for part in parts:
        folder = part.config.out
        attempts |= read_submission(folder / "submission.json", part.tasks)
        predictions |= read_prediction_folder(folder / "predictions")
        reports = read_json_file(folder / "report.json")["reports"]
        runs += [TaskRun.from_json(report["run"]) if report["run"] else None for report in reports]
    model, config = parts[0].model, parts[0].config
    n_views, answered = config.generate.n_views, [run for run in runs if run]
    outputs, scores = judge(tasks, attempts, predictions, n_views), scores_json(attempts, predictions, tasks)
    missing = {"no prediction": len(outputs) * n_views - sum(map(len, predictions.values()))}
    return Column(
        checkpoint=model.name,
        series=model.series,
        recipe=config.recipe,
        step=model.step,
        tokens=model.tokens,
        views=view_counts(n_views),
        outputs=outputs,
        scores=scores,
        unanswered={name: n for name, n in {**scores["unanswered_by_reason"], **missing}.items() if n},
        tune_seconds=sum(run.tune.seconds for run in answered) / max(1, len(answered)),
        infer_seconds=sum(run.infer_seconds for run in answered) / max(1, len(answered)),
        outcomes=dict(Counter(map(_outcome, runs)).most_common()),
    )


def _outcome(run: TaskRun | None) -> str:
    if run is None:
        return "no answer"
    if not run.tune.tuned:
        return "not tuned"
    return "cut off" if run.tune.cut_off else run.tune.text


def _check_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    if list(found["tasks"]) != list(wanted["tasks"]):
        raise ConfigError(
            f"folder {folder}: found results of tasks {','.join(found['tasks']):.60}, expected "
            f"{','.join(wanted['tasks']):.60}; go on with the --select and --part-size of then, or take another --out"
        )
    before, now = flat(found), flat(wanted)
    if other := [name for name in {**now, **before} if before.get(name) != now.get(name)]:
        raise ConfigError(
            f"folder {folder}: found results of {other[0]} {before.get(other[0], 'not set')!r:.80}, expected "
            f"{now.get(other[0], 'not set')!r:.80}; go on with what it was, or take another --out"
        )
