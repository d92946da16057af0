"""What people publish puzzles as: the shapes of their JSON files, each entry of a file read into one value."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from arc_kaggle.errors import ArcKaggleError, TaskError
from arc_kaggle.system.inputs import read_input_lines, read_json_file
from arc_kaggle.tasks.task import Pair, Task, pair_from_json, summary, task_from_json

T = TypeVar("T")
Bad = Callable[[ArcKaggleError], None]
"""Is told what is wrong with an entry or a file, which is then left out."""

ENDINGS = re.compile(r"\.jsonl?(\.gz|\.xz)?$")
N_SHOWN = 3
"""Train pairs of a task that is made of a list of pairs; the next pair is asked for."""
PAIR_LISTS = ("pairs", "examples")
MORE_PAIRS = "arc-gen"
"""Further pairs of a task, as the code golf competition of 2025 has them."""
ID_KEYS = ("task", "task_id", "id", "name")


@dataclass(frozen=True, slots=True, eq=False)
class TaskEntry:
    """One puzzle of a file: train and test pairs, or pairs alone, of which none is marked as train or test."""

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    more: tuple[Pair, ...]
    where: str

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every pair whose output is known."""
        return (*self.train, *(pair for pair in self.test if pair.output is not None), *self.more)

    def as_task(self) -> Task:
        """The task; of pairs alone the first ones, at most `N_SHOWN`, are shown and the next one is asked for.

        Raises TaskError for a single pair.
        """
        if self.test:
            return Task(self.id, self.train, self.test)
        if len(self.more) < 2:
            raise TaskError(
                f"{self.where}: task {self.id}: pairs alone, found {len(self.more)}, expected two to make a task"
            )
        n_shown = min(N_SHOWN, len(self.more) - 1)
        return Task(self.id, self.more[:n_shown], self.more[n_shown : n_shown + 1])


def read_entries(path: Path, name: str, bad: Bad | None = None) -> Iterator[TaskEntry]:
    """The entries of a .json file, or of a .jsonl file with one a line; both may be packed (.gz, .xz).

    `name` is how errors call the file. Raises TaskError or GridError, but where `bad` is given.
    """
    stem = ENDINGS.sub("", path.name)
    if ".jsonl" in path.suffixes[-2:]:
        yield from each_good(_lines(path, stem, name), bad)
    else:
        for readers in each_good([lambda: _readers(read_json(path), stem, name)], bad):
            yield from each_good(readers, bad)


def skipping(skip: bool) -> Bad | None:
    """What leaves out bad entries with a line each on stderr; None, by which they are errors, where not asked to."""
    return (lambda error: print(f"arc-kaggle: left out: {error}", file=sys.stderr)) if skip else None


def each_good(readers: Iterable[Callable[[], T]], bad: Bad | None) -> Iterator[T]:
    """What each reader gives; where one raises an ArcKaggleError, `bad` is told and the others go on."""
    for read in readers:
        try:
            yield read()
        except ArcKaggleError as error:
            if bad is None:
                raise
            bad(error)


def _lines(path: Path, stem: str, name: str) -> Iterator[Callable[[], TaskEntry]]:
    try:
        for number, line in enumerate(read_input_lines(path), start=1):
            yield partial(_line_entry, line, f"{stem}-{number}", f"{name}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        yield partial(_fail, TaskError(f"{path}: cannot be read ({error})"))


def _fail(error: TaskError) -> TaskEntry:
    raise error


def _line_entry(line: str, default_id: str, at: str) -> TaskEntry:
    try:
        value = json.loads(line, **STRICT)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{at}: {error}, expected JSON") from error
    return _entry(_id_of(value, default_id, at), value, at)


def _readers(value: Any, stem: str, at: str) -> list[Callable[[], TaskEntry]]:
    """A reader for each entry of a file's value, told apart by what is in it."""
    if isinstance(value, dict) and value:
        parts = [value.get(part) for part in ("train", "test")]
        one = any(isinstance(part, list) for part in parts) or _pairs_in(value) is not None
        items = [(stem, value)] if one else list(value.items())
        return [partial(_entry, task_id, each, at) for task_id, each in items]
    if isinstance(value, list) and value:
        if _is_pair(value[0]):
            return [partial(_entry, stem, value, at)]
        return [partial(_listed_entry, each, f"{stem}-{i}", f"{at}, entry {i}") for i, each in enumerate(value)]
    raise TaskError(f"{at}: found {summary(value)}, expected an object of tasks, one task, or a list of pairs or tasks")


def _listed_entry(value: Any, default_id: str, at: str) -> TaskEntry:
    return _entry(_id_of(value, default_id, at), value, at)


def _entry(task_id: str, value: Any, at: str) -> TaskEntry:
    pairs = value if isinstance(value, list) and value and _is_pair(value[0]) else _pairs_in(value)
    if pairs is not None:
        return TaskEntry(task_id, (), (), _read_pairs(pairs, f"{at}: task {task_id}, pair"), at)
    task = task_from_json(task_id, value, at)
    more = _read_pairs(value.get(MORE_PAIRS, []), f"{at}: task {task_id}, {MORE_PAIRS} pair")
    return TaskEntry(task_id, task.train, task.test, more, at)


def _pairs_in(value: Any) -> list[Any] | None:
    """The list of pairs that an object holds; None where it holds none, or train and test pairs."""
    if not isinstance(value, dict) or "train" in value or "test" in value:
        return None
    return next((value[key] for key in PAIR_LISTS if isinstance(value.get(key), list)), None)


def _read_pairs(values: Any, at: str) -> tuple[Pair, ...]:
    if not isinstance(values, list):
        raise TaskError(f"{at}: found {summary(values)}, expected a list of pairs")
    return tuple(pair_from_json(_as_object(value), f"{at} {i}", True) for i, value in enumerate(values))


def _as_object(value: Any) -> Any:
    """A pair that is written as [input, output] as Kaggle writes it."""
    return {"input": value[0], "output": value[1]} if isinstance(value, list) and len(value) == 2 else value


def _is_pair(value: Any) -> bool:
    """Whether a value is {"input": ...} or [input, output]; a grid is neither, for its rows hold numbers."""
    if isinstance(value, dict):
        return "input" in value
    grid = value[0] if isinstance(value, list) and len(value) == 2 else None
    return isinstance(grid, list) and bool(grid) and isinstance(grid[0], list)


def _id_of(value: Any, default: str, at: str) -> str:
    """The id that an entry gives itself."""
    key = next((key for key in ID_KEYS if key in value), None) if isinstance(value, dict) else None
    if key is None:
        return default
    if type(value[key]) not in (str, int):
        raise TaskError(f"{at}: found {summary(value[key])} as {key!r}, expected the id of the task")
    return str(value[key])


def read_json(path: Path) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN. Raises TaskError that names the file."""
    try:
        return read_json_file(path, **STRICT)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: byte {error.start} is not UTF-8, expected JSON text") from error
    except ValueError as error:
        raise TaskError(f"{path}: {error}, expected JSON") from error


def _no_key_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(items)
    if len(result) != len(items):
        keys = [key for key, _ in items]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return result


def _no_nan(name: str) -> float:
    raise ValueError(f"found {name}")


STRICT: dict[str, Any] = {"object_pairs_hook": _no_key_twice, "parse_constant": _no_nan}
