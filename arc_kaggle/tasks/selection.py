"""Some of many tasks: by id, by position, by slice, or the shortest ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Task

WAYS = "an id, a list of ids, a position, a slice such as 0:20, or shortest:N"


def select_tasks(tasks: Sequence[Task], select: str) -> tuple[Task, ...]:
    """Some of the tasks: '' for all, `12` by position, `0:20` or `::8` by slice, `007bbfb7,00d62c1b` by id (as a JSON
    list where an id holds a comma: `["a,b", "c"]`), `shortest:24` for the 24 whose longest prompt is shortest (ties by
    id). An id comes before any other meaning. Raises TaskError, also where nothing or a task twice is selected.
    """
    chosen = _select(tasks, select)
    if not chosen:
        raise TaskError(f"selection {select!r}: selects none of {len(tasks)} tasks, expected one or more")
    if len({id(task) for task in chosen}) < len(chosen):
        raise TaskError(f"selection {select!r}: names a task twice, expected each id once")
    return tuple(chosen)


def _select(tasks: Sequence[Task], select: str) -> Sequence[Task]:
    by_id = {task.id: task for task in tasks}
    if not select:
        return tasks
    if select in by_id:
        return [by_id[select]]
    if match := re.fullmatch(r"shortest:(\d{1,18})", select):
        return sorted(tasks, key=lambda task: (prompt_length(task), task.id))[: int(match[1])]
    if re.fullmatch(r"-?\d{1,18}", select) and -len(tasks) <= int(select) < len(tasks):
        return [tasks[int(select)]]
    if re.fullmatch(r"(-?\d{1,18})?:(-?\d{1,18})?(:-?[1-9]\d{0,17})?", select):
        return tasks[slice(*(int(part) if part else None for part in select.split(":")))]
    ids = _ids_of(select)
    if missing := [task_id for task_id in ids if task_id not in by_id]:
        raise TaskError(f"selection {select!r}: found no task {missing[0]!r} among {len(tasks)}, expected {WAYS}")
    return [by_id[task_id] for task_id in ids]


def _ids_of(select: str) -> list[str]:
    if select.startswith("["):
        try:
            ids = json.loads(select)
            if isinstance(ids, list) and all(isinstance(task_id, str) for task_id in ids):
                return ids
        except (ValueError, RecursionError):
            pass
        raise TaskError(f"selection {select!r}: found no task of this id and no JSON list of ids, expected {WAYS}")
    return [part.strip() for part in select.split(",")]


def selection_of(tasks: Iterable[Task]) -> str:
    """The selection of exactly these tasks, whatever their ids are."""
    return json.dumps([task.id for task in tasks])


def prompt_length(task: Task) -> int:
    """Symbols in the longest prompt of a task, grids alone: every cell and every row counts one."""
    grids = [grid for pair in task.train for grid in (pair.input, pair.output) if grid is not None]
    return sum(map(n_symbols, grids)) + max(n_symbols(pair.input) for pair in task.test)


def n_symbols(grid: Grid) -> int:
    """Symbols of a grid in the minimal encoding and what ends it: every cell and every row counts one."""
    return grid.size + len(grid)
