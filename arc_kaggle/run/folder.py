"""The folder of a run: whose it is, under which options, and what an earlier run left there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.options import flat, names_aside
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import remove_below
from arc_kaggle.tasks.task import Task, task_to_json

STAGES_FILE = "stages.jsonl"
MAY_DIFFER = names_aside(SolveConfig)
"""Options that decide where a run works and for how long, and not what a stage gives."""
EVIDENCE = ("predictions", "scores")
"""Folders of a file a task."""
WRITTEN = (
    *("report.json", "status.json", "events.jsonl", STAGES_FILE, "worker*.log", "*.damaged"),
    *(f"{folder}/*.{ending}" for folder in EVIDENCE for ending in ("jsonl", "jsonl.damaged")),
)
"""What an earlier run left, and nothing that somebody else may have put beside it."""


def lock(out: Path) -> TextIO:
    """An open file that holds the folder's lock until it is closed, or this process ends. Raises ConfigError."""
    out.mkdir(parents=True, exist_ok=True)
    file = (out / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"folder {out}: another `solve` is writing there; wait for it, or take another --out"
        ) from None
    return file


def clear(out: Path) -> None:
    """Remove what an earlier run left. Raises OSError."""
    for path in [path for pattern in WRITTEN for path in out.glob(pattern)]:
        remove_below(out, path)
    for name in EVIDENCE:
        with suppress(OSError):  # there is none, or it holds what is somebody else's
            (out / name).rmdir()


def check_same(config: SolveConfig, out: Path) -> None:
    """Raise ConfigError that names the option in which a run differs from the one whose results are there."""
    way_out = "go on with what it was, take another --out, or --overwrite"
    try:
        before = flat(read_json_file(out / "config.json"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"folder {out}: its config.json cannot be read ({error}); take another --out") from error
    now = flat(config_to_json(config))
    for name in {**now, **before}:
        if name not in MAY_DIFFER and before.get(name) != now.get(name):
            raise ConfigError(
                f"folder {out}: found the results of an earlier run with {name} {before.get(name, 'not set')!r:.80}, "
                f"expected {now.get(name, 'not set')!r:.80}; {way_out}"
            )


def digest_of(tasks: Sequence[Task]) -> str:
    """Equal for equal tasks in the same order, whether their solutions are known or not."""
    visible = {task.id: task_to_json(task.without_solution()) for task in tasks}
    return hashlib.sha256(json.dumps(visible).encode()).hexdigest()[:16]


def digest_of_run(config: SolveConfig) -> str:
    """Names the scratch of a run, so that a later process that goes on with it finds it again."""
    plain = {name: value for name, value in flat(config_to_json(config)).items() if name not in MAY_DIFFER}
    where = os.path.abspath(config.out)
    return hashlib.sha256(json.dumps([where, plain]).encode()).hexdigest()[:16]
