"""The submission: two valid grids for every query, on disk from the first second, replaced as a whole each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arc_kaggle.answering.candidates import Attempts, Candidate, CandidateScore, Prediction
from arc_kaggle.answering.simple_rules import fallback_grids, proven_grids
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import Selection
from arc_kaggle.errors import ArcKaggleError, SubmissionError
from arc_kaggle.system.files import write_json
from arc_kaggle.tasks.entries import read_json
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists, same_grid
from arc_kaggle.tasks.task import Query, Task

ATTEMPT_NAMES = ("attempt_1", "attempt_2")


def vote_task(
    task: Task, predictions: Sequence[Prediction], scores: Sequence[CandidateScore] = (), by: Selection = "votes"
) -> list[Attempts]:
    """The two attempts for every query of a task, by the evidence for its candidates."""
    return [choose_attempts(query, _ranked(query, predictions, scores, by)) for query in task.queries]


def _ranked(
    query: Query, predictions: Sequence[Prediction], scores: Sequence[CandidateScore], by: Selection
) -> list[Candidate]:
    of_query = (p for p in predictions if p.query == query.index)
    return rank_candidates(of_query, (s for s in scores if s.query == query.index), by)


def choose_attempts(query: Query, ranked: Sequence[Candidate]) -> Attempts:
    """The best candidate, and what a simple rule says that holds for all train pairs, else the second candidate.

    Where there are fewer, fallback grids that differ from what is there already.
    """
    in_order = _grids(query, ranked)
    first = next(in_order)
    return first, next(grid for grid in in_order if not same_grid(grid, first))


def _grids(query: Query, ranked: Sequence[Candidate]) -> Iterator[Grid]:
    yield from (candidate.grid for candidate in ranked[:1])
    yield from proven_grids(query)[:1]
    yield from (candidate.grid for candidate in ranked[1:])
    yield from fallback_grids(query)


class SubmissionFile:
    """submission.json: valid at every moment, because it is only ever replaced by another valid one."""

    def __init__(self, path: Path, tasks: Sequence[Task]) -> None:
        self.path = path
        self.attempts = {task.id: [choose_attempts(query, []) for query in task.queries] for task in tasks}
        self.write()

    def write(self) -> None:
        write_json(self.path, submission_json(self.attempts), indent=None)


def submission_json(attempts: dict[str, list[Attempts]]) -> dict[str, list[dict[str, list[list[int]]]]]:
    """Kaggle's format: task id -> for every test input {"attempt_1": grid, "attempt_2": grid}."""
    return {
        task_id: [dict(zip(ATTEMPT_NAMES, map(grid_lists, pair), strict=True)) for pair in queries]
        for task_id, queries in attempts.items()
    }


def read_submission(path: Path, tasks: Sequence[Task]) -> dict[str, list[Attempts]]:
    """Read and check a submission against its tasks. Raises SubmissionError that names file, task, query, attempt."""
    try:
        value = read_json(path)
    except ArcKaggleError as error:
        raise SubmissionError(str(error)) from error
    if not isinstance(value, dict):
        raise SubmissionError(f"{path.name}: found {type(value).__name__}, expected an object of task id -> answers")
    missing = [task.id for task in tasks if task.id not in value]
    if missing:
        raise SubmissionError(f"{path.name}: found no answer for {len(missing)} tasks, the first is {missing[0]}")
    return {task.id: _read_task(value[task.id], task, path.name) for task in tasks}


def _read_task(value: Any, task: Task, name: str) -> list[Attempts]:
    at = f"{name}: task {task.id}"
    if not isinstance(value, list) or len(value) != len(task.test):
        found = f"{len(value)} answers" if isinstance(value, list) else type(value).__name__
        raise SubmissionError(f"{at}: found {found}, expected a list of {len(task.test)}, one a test input")
    return [_read_attempts(answer, f"{at}, query {i}") for i, answer in enumerate(value)]


def _read_attempts(value: Any, at: str) -> Attempts:
    if not isinstance(value, dict) or not set(ATTEMPT_NAMES) <= value.keys():
        raise SubmissionError(f'{at}: expected an object with "attempt_1" and "attempt_2"')
    try:
        first, second = (as_grid(value[name], f"{at}, {name}") for name in ATTEMPT_NAMES)
    except ArcKaggleError as error:
        raise SubmissionError(str(error)) from error
    return first, second
