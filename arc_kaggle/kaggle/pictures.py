"""Pictures of what runs of `solve` answered, sorted by a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_kaggle.answering.candidates import Attempts, Prediction, read_prediction_folder
from arc_kaggle.answering.metrics import prediction_scores
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.drawing import draw_sheet
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.task import Pair, Task


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredQuery:
    """A task with what a run answered: the attempts for each of its test inputs, and the score it is sorted by."""

    task: Task
    attempts: Sequence[Attempts]
    score: float


def draw_predictions(folder: Path, tasks: str, path: Path, by: str = "correct_pixels", n_tasks: int = 24) -> Path:
    """Draw answers of the runs of `solve` in or below a folder into an SVG or PNG file, the lowest score first.

    One test input a block: the input over its answer, then the first attempt over the second. `by` is one of the
    scores of `arc-kaggle score`, such as correct_pixels, accuracy, unanswered. Raises ConfigError, TaskError.
    """
    by_id = {task.id: task for task in load_tasks(tasks)}
    found = [answer for run in _runs(folder) for answer in read_answers(run, by_id, by)]
    lowest = sorted(found, key=lambda answer: (answer.score, answer.task.id))[:n_tasks]
    blocks = [(_label(answer, by), _pairs(answer, i)) for answer in lowest for i in range(len(answer.attempts))]
    title = f"{len(lowest)} of {len(found)} tasks, lowest {by} first: input over answer, attempt 1 over attempt 2"
    draw_sheet(blocks, path, title)
    return path


def _runs(folder: Path) -> list[Path]:
    runs = sorted(path.parent for path in folder.rglob("predictions") if path.is_dir())
    if not runs:
        raise ConfigError(f"folder {folder}: found no run of `solve` in it or below, expected predictions/")
    return runs


def read_answers(run: Path, tasks: dict[str, Task], by: str) -> list[AnsweredQuery]:
    """What one run answered of some tasks whose solutions are known. Raises TaskError, ConfigError."""
    predictions = read_prediction_folder(run / "predictions")
    if unknown := [task_id for task_id in predictions if task_id not in tasks or not tasks[task_id].has_solution]:
        raise TaskError(f"run {run}: found task {unknown[0]}, expected it among the tasks, with its solution")
    solved = [tasks[task_id] for task_id in predictions]
    attempts = read_submission(run / "submission.json", solved)
    return [AnsweredQuery(task, attempts[task.id], _score(task, predictions[task.id], by)) for task in solved]


def _score(task: Task, predictions: Sequence[Prediction], by: str) -> float:
    scores = prediction_scores({task.id: predictions}, [task])
    if by not in scores:
        raise ConfigError(f"score {by!r}: no such score, expected one of {', '.join(scores)}")
    return scores[by].mean


def _label(answer: AnsweredQuery, by: str) -> str:
    return f"{answer.task.id} {by} {answer.score:.2f}"


def _pairs(answer: AnsweredQuery, query: int) -> list[Pair]:
    return [answer.task.test[query], Pair(*answer.attempts[query])]
