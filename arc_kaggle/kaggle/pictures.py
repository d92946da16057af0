"""Pictures of what runs of `solve` answered, those with the lowest score first; and their report page in a frame."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_kaggle.answering.candidates import Attempts, Prediction, read_prediction_folder
from arc_kaggle.answering.metrics import prediction_scores
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.drawing import draw_sheet
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.evaluation.page.build import page
from arc_kaggle.evaluation.run_view import run_view
from arc_kaggle.run.report import proposer
from arc_kaggle.system.files import write_atomically
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import same_grid
from arc_kaggle.tasks.task import Pair, Query, Task


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredQuery:
    """A task with what a run answered: for each of its test inputs the attempts, and who solved it."""

    task: Task
    attempts: Sequence[Attempts]
    solvers: Sequence[str]
    """`model`, `rule` or `guess` for a right attempt, empty where neither is right."""
    score: float
    """Of the model's own answers; what the task is sorted by."""


def draw_predictions(folder: Path, tasks: str, path: Path, by: str = "correct_pixels", n_tasks: int = 24) -> Path:
    """Draw answers of the runs of `solve` in or below a folder into an SVG or PNG file, the lowest score first.

    One test input a block: the input over its answer, then the first attempt over the second. `by` is one of the
    scores of `arc-kaggle score`, such as correct_pixels, accuracy, unanswered. Raises ConfigError, TaskError.
    """
    by_id = {task.id: task for task in load_tasks(tasks)}
    found = [answer for run in _runs(folder) for answer in read_answers(run, by_id, by)]
    lowest = sorted(found, key=lambda answer: (answer.score, answer.task.id))[:n_tasks]
    blocks = [(label(answer, by, i), _pairs(answer, i)) for answer in lowest for i in range(len(answer.attempts))]
    title = (
        f"{len(lowest)} of {len(found)} tasks, lowest {by} of the model's own answers first: input over answer, "
        "attempt 1 over attempt 2"
    )
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
    return [_answer(task, attempts[task.id], predictions[task.id], by) for task in solved]


def _answer(task: Task, attempts: Sequence[Attempts], found: Sequence[Prediction], by: str) -> AnsweredQuery:
    solvers = [solver(query, attempts[query.index], found) for query in task.queries]
    return AnsweredQuery(task, attempts, solvers, _score(task, found, by))


def solver(query: Query, attempts: Attempts, found: Sequence[Prediction]) -> str:
    """Who proposed the attempt that is right: `model`, `rule` or `guess`; empty where neither attempt is."""
    candidates = rank_candidates(prediction for prediction in found if prediction.query == query.index)
    right = [attempt for attempt in attempts if query.answer is not None and same_grid(attempt, query.answer)]
    return proposer(right[0], query, (each.grid for each in candidates)) if right else ""


def _score(task: Task, predictions: Sequence[Prediction], by: str) -> float:
    scores = prediction_scores({task.id: predictions}, [task])
    if by not in scores:
        raise ConfigError(f"score {by!r}: no such score, expected one of {', '.join(scores)}")
    return scores[by].mean


SOLVED = {"model": "solved by the model", "rule": "solved by a simple rule", "guess": "solved by a guess"}


def label(answer: AnsweredQuery, by: str, query: int) -> str:
    """The score of the model's answers, and whether the output is solved all the same, and by whom."""
    return f"{answer.task.id} {by} {answer.score:.2f}, {SOLVED.get(answer.solvers[query], 'not solved')}"


def _pairs(answer: AnsweredQuery, query: int) -> list[Pair]:
    return [answer.task.test[query], Pair(*answer.attempts[query])]


def report_frame(folder: Path, path: Path = Path("report.html"), height: int = 900) -> str:
    """The report page on the runs of `solve` in or below a folder, written to `path`, as HTML for a notebook's output.

    It stands in a frame of its own, which can run the page's script and reach nothing around it. Raises ConfigError,
    SubmissionError, TaskError.
    """
    runs = _runs(folder)
    names = [run.relative_to(folder).as_posix() if run != folder else folder.name for run in runs]
    text = page(f"arc_kaggle: {folder.name}", [run_view(run, name) for run, name in zip(runs, names, strict=True)])
    write_atomically(path, text)
    return (
        f'<div><iframe title="Report" sandbox="allow-scripts" style="width: 100%; height: {height}px; border: 0" '
        f'srcdoc="{html.escape(text)}"></iframe></div>'
    )
