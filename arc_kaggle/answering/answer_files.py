"""Answers as people publish them: Kaggle's submission.json, or a folder with one file a task as benchmarks have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arc_kaggle.answering.submission import ATTEMPT_NAMES
from arc_kaggle.errors import ArcKaggleError, SubmissionError
from arc_kaggle.tasks.entries import ENDINGS, read_json
from arc_kaggle.tasks.grid import Grid, as_grid
from arc_kaggle.tasks.task import Task, summary

Answers = dict[str, list[tuple[Grid, ...]]]
"""By task id, for each test input: its attempts, at most two."""


def read_answers(path: Path, tasks: Sequence[Task]) -> Answers:
    """The attempts for those of the tasks that a submission holds; it may hold others, too.

    A file is in Kaggle's form: task id -> for each test input {"attempt_1": grid, "attempt_2": grid}. In a folder each
    file ID.json holds what Kaggle has under that id; there a grid may stand in {"answer": grid}, and an attempt may be
    missing or null. Raises SubmissionError that names file, task, query and attempt.
    """
    try:
        return _read(path, tasks)
    except SubmissionError:
        raise
    except ArcKaggleError as error:
        raise SubmissionError(str(error)) from error


def _read(path: Path, tasks: Sequence[Task]) -> Answers:
    if path.is_dir():
        wanted = {task.id for task in tasks}
        files = {ENDINGS.sub("", file.name): file for file in sorted(path.glob("*.json"))}
        held = {task_id: (read_json(file), file.name) for task_id, file in files.items() if task_id in wanted}
    else:
        value = read_json(path)
        if not isinstance(value, dict):
            raise SubmissionError(f"{path.name}: found {summary(value)}, expected an object of task id -> answers")
        held = {task_id: (answers, path.name) for task_id, answers in value.items()}
    found = [task for task in tasks if task.id in held]
    if not found:
        raise SubmissionError(
            f"{path}: found answers for none of {len(tasks)} tasks, expected a submission.json, or files ID.json, for "
            "those of --tasks"
        )
    return {task.id: _of_task(*held[task.id], task, strict=not path.is_dir()) for task in found}


def _of_task(value: Any, name: str, task: Task, strict: bool) -> list[tuple[Grid, ...]]:
    at, listed = f"{name}: task {task.id}", [value] if isinstance(value, dict) else value
    if not isinstance(listed, list) or len(listed) != len(task.test):
        raise SubmissionError(f"{at}: found {summary(value)}, expected a list of {len(task.test)}, one a test input")
    return [_attempts(answer, f"{at}, query {i}", strict) for i, answer in enumerate(listed)]


def _attempts(value: Any, at: str, strict: bool) -> tuple[Grid, ...]:
    expected = 'expected an object with "attempt_1" and "attempt_2"'
    if not isinstance(value, dict) or not any(name in value for name in ATTEMPT_NAMES):
        raise SubmissionError(f"{at}: found {summary(value)}, {expected}")
    if strict and not set(ATTEMPT_NAMES) <= value.keys():
        raise SubmissionError(f"{at}: found {summary(value)}, {expected}")
    grids = ((name, _grid_in(value.get(name))) for name in ATTEMPT_NAMES)
    return tuple(as_grid(grid, f"{at}, {name}") for name, grid in grids if strict or grid not in (None, []))


def _grid_in(value: Any) -> Any:
    return value["answer"] if isinstance(value, dict) and "answer" in value else value
