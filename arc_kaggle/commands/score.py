"""Judging: a submission, or the predictions of a run, against known solutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from arc_kaggle.answering.candidates import CandidateScore, read_prediction_folder
from arc_kaggle.answering.metrics import kaggle_score, selection_scores
from arc_kaggle.answering.submission import read_submission, vote_task
from arc_kaggle.config.answer import Selection
from arc_kaggle.errors import SubmissionError, TaskError
from arc_kaggle.evaluation.early_stopping import stopping_table
from arc_kaggle.run.report import score_lines, scores_json
from arc_kaggle.system.files import read_lines
from arc_kaggle.tasks.dataset import load_solutions_json, load_tasks
from arc_kaggle.tasks.task import Task
from arc_kaggle.tasks.task import with_solutions as solved_pairs


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """Judge a submission, or predictions by a new vote, against solutions, Kaggle's way."""

    submission: Path
    """submission.json, or a folder that `solve` wrote: its predictions are voted on anew."""
    tasks: str
    """The tasks that were solved, as for `solve`."""
    select: str = ""
    """Which of them, as for `solve`."""
    solutions: Path | None = None
    """Kaggle's solutions file, where the tasks come without."""
    select_by: Selection = "votes"
    """How attempts are chosen anew among the candidates in a folder, as for `solve`."""


def run(config: ScoreConfig) -> int:
    """Print the scores, and for predictions the table of ways to select and to stop early."""
    scores = score(config)
    print(score_lines(scores))
    print(table_lines(scores), end="")
    print(f"{scores['n_tasks']} tasks")
    return 0


def score(config: ScoreConfig) -> dict[str, Any]:
    """Scores by name, each {mean, low, high}, 0..1. Raises SubmissionError or TaskError."""
    tasks = with_solutions(load_tasks(config.tasks, config.select), config.solutions)
    if unknown := [task.id for task in tasks if not task.has_solution]:
        raise TaskError(
            f"tasks {config.tasks}: {len(unknown)} have no solution, the first is {unknown[0]}; name --solutions"
        )
    if config.submission.is_dir():
        return _score_predictions(config, tasks)
    attempts = read_submission(config.submission, tasks)
    return {"kaggle": asdict(kaggle_score(attempts, tasks)), "n_tasks": len(tasks)}


def with_solutions(tasks: Sequence[Task], path: Path | None) -> list[Task]:
    """Tasks with the answers of a Kaggle solutions file in place."""
    if path is None:
        return list(tasks)
    solutions = load_solutions_json(path)
    if missing := [task.id for task in tasks if task.id not in solutions]:
        raise TaskError(f"{path}: found no solution of {len(missing)} tasks, the first is {missing[0]}")
    return [
        replace(task, test=solved_pairs(task.test, solutions[task.id], f"{path.name}: task {task.id}"))
        for task in tasks
    ]


def _score_predictions(config: ScoreConfig, tasks: Sequence[Task]) -> dict[str, Any]:
    folder = config.submission
    inner = folder / "predictions" if (folder / "predictions").is_dir() else folder
    predictions = read_prediction_folder(inner)
    if not predictions:
        raise SubmissionError(f"folder {folder}: found no predictions (*.jsonl), expected those that `solve` writes")
    read = (_read_scores(path) for path in sorted((inner.parent / "scores").glob("*.jsonl")))
    scores = {found[0].task_id: found for found in read if found}
    attempts = {
        task.id: vote_task(task, predictions.get(task.id, ()), scores.get(task.id, ()), config.select_by)
        for task in tasks
    }
    selection = selection_scores(predictions, scores, tasks)
    table = {way: {"top_1": asdict(first), "top_2": asdict(second)} for way, (first, second) in selection.items()}
    stopping = [asdict(each) for each in stopping_table(predictions, scores, tasks, config.select_by)]
    return {**scores_json(attempts, predictions, tasks), "selection": table, "stopping": stopping}


def _read_scores(path: Path) -> list[CandidateScore]:
    return [CandidateScore.from_json(value, f"{path.name}") for value in read_lines(path).values]


def table_lines(scores: dict[str, Any]) -> str:
    """Per cent of test outputs whose answer is ranked first, and among the first two: by each way to select, and by
    each way to stop early, with the per cent of the views that it asks; empty for a submission alone.
    """
    if "selection" not in scores:
        return ""
    rows = [f"{'selected by':<20}{'top 1':>8}{'top 2':>9}"]
    rows += [f"{way:<20}{_per_cent(share)}" for way, share in scores["selection"].items()]
    rows.append(f"{'stopped early':<20}{'top 1':>8}{'top 2':>9}{'asked':>9}")
    for row in scores["stopping"]:
        name = f"lead {row['stop_lead']}, waves of {row['views_a_wave']}" if row["stop_lead"] else "all views"
        rows.append(f"{name:<20}{_per_cent(row)}{100 * row['asked']:>8.1f}%")
    return "".join(f"{row}\n" for row in rows)


def _per_cent(share: Mapping[str, Any]) -> str:
    return f"{100 * share['top_1']['mean']:>7.1f}%{100 * share['top_2']['mean']:>8.1f}%"
