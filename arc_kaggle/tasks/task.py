"""Tasks, as values: pairs of grids, and the JSON objects that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists, same_grid


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One input grid and its output grid; the output is None where it is not known."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A puzzle: train pairs that define a hidden rule, and test pairs whose outputs are wanted."""

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    def __repr__(self) -> str:
        return f"<Task {shown_id(self.id)} | {len(self.train)} train | {len(self.test)} test>"

    @property
    def queries(self) -> Iterator[Query]:
        return (Query(self, index) for index in range(len(self.test)))

    @property
    def has_solution(self) -> bool:
        return all(pair.output is not None for pair in self.test)

    def without_solution(self) -> Task:
        """The same task with its test outputs hidden, as a model may see it."""
        return replace(self, test=tuple(Pair(pair.input, None) for pair in self.test))


def shown_id(task_id: str) -> str:
    """An id as it may be printed: what a terminal cannot show, or would obey, is escaped."""
    return task_id if task_id.isprintable() else ascii(task_id)[1:-1]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One test input of a task that wants an answer."""

    task: Task
    index: int

    @property
    def input(self) -> Grid:
        return self.task.test[self.index].input

    @property
    def answer(self) -> Grid | None:
        return self.task.test[self.index].output


def task_from_json(task_id: str, value: Any, where: str = "") -> Task:
    """Read one Kaggle-format task object.

    Raises TaskError or GridError whose message names `where`, the task, the pair, the side and the cell.
    """
    at = f"{where}: task {task_id}" if where else f"task {task_id}"
    if not isinstance(value, dict) or not {"train", "test"} <= value.keys():
        raise TaskError(f'{at}: found {summary(value)}, expected an object with "train" and "test"')
    train, test = (_pairs(value, part, at) for part in ("train", "test"))
    return Task(task_id, train, test)


def task_to_json(task: Task) -> dict[str, list[dict[str, list[list[int]]]]]:
    """The Kaggle-format object of a task; outputs that are not known are left out."""
    return {"train": [_pair_to_json(p) for p in task.train], "test": [_pair_to_json(p) for p in task.test]}


def _pair_to_json(pair: Pair) -> dict[str, list[list[int]]]:
    sides = {"input": grid_lists(pair.input)}
    return sides if pair.output is None else {**sides, "output": grid_lists(pair.output)}


def _pairs(value: dict[str, Any], part: str, at: str) -> tuple[Pair, ...]:
    pairs = value[part]
    if not isinstance(pairs, list) or not pairs:
        raise TaskError(f"{at}: found {summary(pairs)} as {part!r}, expected a list of one pair or more")
    return tuple(pair_from_json(pair, f"{at}, {part} pair {i}", part == "train") for i, pair in enumerate(pairs))


def pair_from_json(value: Any, at: str, needs_output: bool) -> Pair:
    """Read one pair object. Raises TaskError or GridError whose message begins with `at`."""
    if not isinstance(value, dict) or "input" not in value:
        raise TaskError(f'{at}: found {summary(value)}, expected an object with "input"')
    if needs_output and "output" not in value:
        raise TaskError(f"{at}: found no output, expected one in every train pair")
    output = as_grid(value["output"], f"{at}, output") if value.get("output") is not None or needs_output else None
    return Pair(as_grid(value["input"], f"{at}, input"), output)


def with_solutions(test: tuple[Pair, ...], solutions: Any, at: str) -> tuple[Pair, ...]:
    """Test pairs with the outputs of a solutions file. Raises TaskError, also where it contradicts a known output."""
    if not isinstance(solutions, list) or len(solutions) != len(test):
        raise TaskError(f"{at}: found {summary(solutions)}, expected {len(test)} grids, one a test input")
    grids = [as_grid(grid, f"{at}, solution {i}") for i, grid in enumerate(solutions)]
    for i, (pair, grid) in enumerate(zip(test, grids, strict=True)):
        if pair.output is not None and not same_grid(pair.output, grid):
            raise TaskError(f"{at}, solution {i}: differs from the output in the task itself; correct one of the two")
    return tuple(Pair(pair.input, grid) for pair, grid in zip(test, grids, strict=True))


def summary(value: Any) -> str:
    """A JSON value in a few words, for messages."""
    if isinstance(value, dict):
        return f"an object with keys {sorted(map(str, value))[:4]}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)[:40]
