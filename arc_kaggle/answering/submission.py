"""The submission: two valid grids for every query, on disk from the first second, replaced as a whole each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_kaggle.answering.candidates import Attempts, Candidate, CandidateScore, Prediction
from arc_kaggle.answering.simple_rules import fallback_grids, proven_grids
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import Selection
from arc_kaggle.errors import ArcKaggleError, SubmissionError
from arc_kaggle.system.files import write_atomically
from arc_kaggle.tasks.entries import read_json
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists, same_grid
from arc_kaggle.tasks.task import Query, Task

ATTEMPT_NAMES = ("attempt_1", "attempt_2")
SINGLE_CELLS = as_grid([[0]]), as_grid([[1]])


@dataclass(frozen=True, slots=True, eq=False)
class RuleGrids:
    """What simple rules say of one query."""

    proven: Sequence[Grid]
    """Grids of rules that hold for all train pairs, best first."""
    fallback: Sequence[Grid]
    """Grids to fall back on, best first; at least two that differ."""


def rule_grids(query: Query) -> RuleGrids:
    """Try all simple rules on a query, which takes some milliseconds."""
    return RuleGrids(proven_grids(query), fallback_grids(query))


def without_rules(query: Query) -> RuleGrids:
    """The input and a single cell, which take no time."""
    return RuleGrids((), (query.input, *SINGLE_CELLS))


def vote_task(
    task: Task,
    predictions: Sequence[Prediction],
    scores: Sequence[CandidateScore] = (),
    by: Selection = "votes",
    rules: Callable[[Query], RuleGrids] = rule_grids,
) -> list[Attempts]:
    """The two attempts for every query of a task, by the evidence for its candidates."""
    return [choose_attempts(query, _ranked(query, predictions, scores, by), rules(query)) for query in task.queries]


def _ranked(
    query: Query, predictions: Sequence[Prediction], scores: Sequence[CandidateScore], by: Selection
) -> list[Candidate]:
    of_query = (p for p in predictions if p.query == query.index)
    return rank_candidates(of_query, (s for s in scores if s.query == query.index), by)


def choose_attempts(query: Query, ranked: Sequence[Candidate], rules: RuleGrids | None = None) -> Attempts:
    """The best candidate, and what a simple rule says that holds for all train pairs, else the second candidate.

    Where there are fewer, fallback grids that differ from what is there already.
    """
    in_order = _grids(ranked, rules or rule_grids(query))
    first = next(in_order)
    return first, next(grid for grid in in_order if not same_grid(grid, first))


def _grids(ranked: Sequence[Candidate], rules: RuleGrids) -> Iterator[Grid]:
    yield from (candidate.grid for candidate in ranked[:1])
    yield from rules.proven[:1]
    yield from (candidate.grid for candidate in ranked[1:])
    yield from rules.fallback


class SubmissionFile:
    """submission.json: valid at every moment, because it is only ever replaced by another valid one.

    It begins with two grids for each query that take no time; better ones are `put` in their place. Only what changed
    is made into JSON again, and the caller decides when to `write`.
    """

    def __init__(self, path: Path, tasks: Sequence[Task]) -> None:
        self.path = path
        self.attempts = {task.id: vote_task(task, (), rules=without_rules) for task in tasks}
        self.changed = True
        """Whether the file lacks something that was put."""
        self._texts = {task.id: "" for task in tasks}

    def put(self, task_id: str, attempts: list[Attempts]) -> None:
        """Replace the attempts of a task, one pair for each query."""
        self.attempts[task_id], self._texts[task_id], self.changed = attempts, "", True

    def write(self) -> None:
        """Replace the file. Raises OSError, and what is there stays there."""
        for task_id, text in self._texts.items():
            if not text:
                self._texts[task_id] = f"{json.dumps(task_id)}: {json.dumps(attempts_json(self.attempts[task_id]))}"
        write_atomically(self.path, f"{{{', '.join(self._texts.values())}}}")
        self.changed = False


def write_fallbacks(path: Path, tasks: Sequence[Task]) -> None:
    """Write a submission of what simple rules say, for want of anything better."""
    file = SubmissionFile(path, tasks)
    for task in tasks:
        file.put(task.id, vote_task(task, ()))
    file.write()


def submission_json(attempts: dict[str, list[Attempts]]) -> dict[str, list[dict[str, list[list[int]]]]]:
    """Kaggle's format: task id -> for every test input {"attempt_1": grid, "attempt_2": grid}."""
    return {task_id: attempts_json(queries) for task_id, queries in attempts.items()}


def attempts_json(queries: Sequence[Attempts]) -> list[dict[str, list[list[int]]]]:
    """The answers to one task in Kaggle's format."""
    return [dict(zip(ATTEMPT_NAMES, map(grid_lists, pair), strict=True)) for pair in queries]


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
