"""Other tasks made of a task: with one train pair held out, or with inputs and outputs exchanged; and pair files."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import grid_lists
from arc_kaggle.tasks.task import Pair, Task


def leave_one_out(task: Task) -> Iterator[Task]:
    """For each train pair `i` a task ID.i that asks for it and shows the others; none where there is one pair alone."""
    for i in range(len(task.train) if len(task.train) > 1 else 0):
        yield Task(f"{task.id}.{i}", (*task.train[:i], *task.train[i + 1 :]), (task.train[i],))


def reversed_task(task: Task) -> Task:
    """The task ID.reversed whose inputs are the outputs. Raises TaskError where a test output is not known."""
    return Task(f"{task.id}.reversed", reversed_pairs(task.train, task.id), reversed_pairs(task.test, task.id))


def reversed_pairs(pairs: Iterable[Pair], task_id: str) -> tuple[Pair, ...]:
    """Pairs with input and output exchanged. Raises TaskError where an output is not known."""
    found = []
    for pair in pairs:
        if pair.output is None:
            raise TaskError(f"task {task_id}: found a test input without output, expected one to reverse the task")
        found.append(Pair(pair.output, pair.input))
    return tuple(found)


def pair_lists(pairs: Iterable[Pair]) -> list[list[list[list[int]]]]:
    """[input, output] of every pair as rows of plain integers, as a pair file holds them."""
    return [[grid_lists(grid) for grid in (pair.input, pair.output) if grid is not None] for pair in pairs]


def write_pair_file(path: Path, rules: Iterable[tuple[str, Iterable[Pair]]]) -> None:
    """A line a rule: {"task": id, "pairs": [[input, output], ...]}, compressed where the name ends in .xz.

    What was there stays until all is written. Raises OSError.
    """
    partial = path.with_name(f".{path.name}.partial")
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(partial, "wt", encoding="utf-8") as file:
        for rule_id, pairs in rules:
            file.write(json.dumps({"task": rule_id, "pairs": pair_lists(pairs)}, separators=(",", ":")) + "\n")
    partial.replace(path)
