"""Command `convert`: it writes tasks in another form, as they are, reversed, or with one train pair held out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.system.files import write_json
from arc_kaggle.tasks.conversions import leave_one_out, reversed_pairs, reversed_task, write_pair_file
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.entries import skipping
from arc_kaggle.tasks.grid import grid_lists
from arc_kaggle.tasks.task import Pair, Task, task_to_json

PLAIN_NAME = re.compile(r"[A-Za-z0-9_()+=@-][A-Za-z0-9_()+=@. -]{0,99}")
"""Ids that can be the name of a file everywhere."""


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Write tasks in Kaggle's form, one file a task, or as pair files.

    For example: arc-kaggle convert re_arc --form pairs --out re_arc.jsonl.xz
    """

    tasks: Positional[str]
    """A task set, a file or a folder in any shape that `solve` reads."""
    out: Path
    """A folder; for pairs a file: .jsonl, or .jsonl.xz for a compressed one. It must not be there."""
    form: Literal["kaggle", "files", "pairs"] = "kaggle"
    """kaggle: NAME_challenges.json, and NAME_solutions.json where outputs are known, NAME being that of the folder.
    files: one file a task, ID.json. pairs: a line a rule, {"task": ID, "pairs": [[input, output], ...]}."""
    select: str = ""
    """Which tasks, as for `solve`."""
    leave_one_out: bool = False
    """Make of each task as many as it has train pairs, each asking for one of them; ids get .0, .1 and so on behind."""
    reverse: bool = False
    """Exchange inputs and outputs; ids get .reversed behind."""
    skip_bad: bool = False
    """Leave out tasks and files that cannot be read, with a line each."""


def run(config: ConvertConfig) -> int:
    """Write the tasks, and say what was written."""
    print(convert(config))
    return 0


def convert(config: ConvertConfig) -> str:
    """Write the tasks in their new form; returns a line about it. Raises ConfigError, TaskError, GridError."""
    if config.out.exists():
        raise ConfigError(f"out {config.out}: found it there already; take another --out")
    if config.form == "pairs" and not config.out.name.endswith((".jsonl", ".jsonl.xz")):
        raise ConfigError(f"out {config.out}: expected a file .jsonl or .jsonl.xz for --form pairs")
    tasks = list(_made_of(load_tasks(config.tasks, config.select, skipping(config.skip_bad)), config))
    if not tasks:
        raise TaskError(f"tasks {config.tasks}: found one train pair in each, expected two or more to leave one out")
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        return {"kaggle": _write_kaggle, "files": _write_files, "pairs": _write_pairs}[config.form](tasks, config)
    except OSError as error:
        raise ConfigError(f"out {config.out}: cannot be written to ({error.strerror})") from error


def _made_of(tasks: Sequence[Task], config: ConvertConfig) -> Iterator[Task]:
    """The tasks to write."""
    for task in tasks:
        for part in leave_one_out(task) if config.leave_one_out else [task]:
            yield reversed_task(part) if config.reverse else part


def _write_kaggle(tasks: Sequence[Task], config: ConvertConfig) -> str:
    """Test inputs in one file and their outputs in another, as a competition has them."""
    known = [task.id for task in tasks if task.has_solution]
    if known and len(known) < len(tasks):
        unknown = next(task.id for task in tasks if not task.has_solution)
        raise TaskError(
            f"tasks {config.tasks}: found {len(tasks) - len(known)} without all outputs, the first is {unknown}, "
            "expected all or none to be known; name some by --select"
        )
    config.out.mkdir()
    challenges, solutions = (config.out / f"{config.out.name}_{part}.json" for part in ("challenges", "solutions"))
    write_json(challenges, {task.id: task_to_json(task.without_solution()) for task in tasks}, indent=None)
    if known:
        outputs = {task.id: [grid_lists(p.output) for p in task.test if p.output is not None] for task in tasks}
        write_json(solutions, outputs, indent=None)
    return f"{challenges}: {len(tasks)} tasks{f'; {solutions.name}: their outputs' if known else ', outputs unknown'}"


def _write_files(tasks: Sequence[Task], config: ConvertConfig) -> str:
    taken: dict[str, str] = {}
    for task in tasks:
        other = taken.setdefault(task.id.casefold(), task.id)
        if not PLAIN_NAME.fullmatch(task.id) or other != task.id:
            reason = f"differs from {other!r} by case alone" if other != task.id else "it cannot be the name of a file"
            raise TaskError(f"task {task.id!r:.120}: {reason}; take --form kaggle, or --form pairs")
    config.out.mkdir()
    for task in tasks:
        write_json(config.out / f"{task.id}.json", task_to_json(task), indent=None)
    return f"{config.out}: {len(tasks)} files of one task each"


def _write_pairs(tasks: Sequence[Task], config: ConvertConfig) -> str:
    """A line a rule; of tasks as they are, every pair that the source has, also beyond those of train and test."""
    rules = list(_rules(tasks, config))
    write_pair_file(config.out, rules)
    return f"{config.out}: {len(rules)} rules, {sum(len(pairs) for _, pairs in rules)} pairs"


def _rules(tasks: Sequence[Task], config: ConvertConfig) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    if config.leave_one_out:
        for task in tasks:
            yield task.id, (*task.train, *(pair for pair in task.test if pair.output is not None))
        return
    wanted = {task.id for task in tasks}
    for rule_id, pairs in load_rules(config.tasks, skipping(config.skip_bad)):
        new_id = f"{rule_id}.reversed" if config.reverse else rule_id
        if new_id in wanted:
            yield new_id, reversed_pairs(pairs, rule_id) if config.reverse else pairs
