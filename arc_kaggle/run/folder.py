"""The folder of a run: whose it is, under which options, and what an earlier run left there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.options import flat, names_aside
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.system.files import read_lines
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import remove_below
from arc_kaggle.tasks.task import Task

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


class FolderLock:
    """A folder that belongs to this process until it is closed, or the process ends.

    Both the folder itself and a file in it are locked: the file alone could be removed, and some network file systems
    lock no folders.
    """

    def __init__(self, out: Path) -> None:
        """Make the folder and lock it. Raises ConfigError where another process has it, and OSError."""
        out.mkdir(parents=True, exist_ok=True)
        self._descriptors = [os.open(out, os.O_RDONLY)]
        try:
            self._descriptors.append(os.open(out / ".lock", os.O_WRONLY | os.O_CREAT, 0o644))
            with suppress(OSError):
                _take(self._descriptors[0], out)
            _take(self._descriptors[1], out)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others into the folder."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _take(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"folder {out}: another `solve` is writing there; wait for it, or take another --out"
        ) from None


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
    whole = hashlib.sha256()
    for task in tasks:
        grids = [grid for pair in (*task.train, *task.without_solution().test) for grid in (pair.input, pair.output)]
        whole.update(json.dumps([task.id, [None if grid is None else grid.shape for grid in grids]]).encode())
        whole.update(b"".join(grid.tobytes() for grid in grids if grid is not None))
    return whole.hexdigest()[:16]


def has_results(out: Path) -> bool:
    """Whether an earlier run found anything there: a run that could not start leaves nothing worth keeping."""
    lines = read_lines(out / STAGES_FILE)
    found = (path for name in EVIDENCE for path in (out / name).glob("*.jsonl"))
    return bool(lines.damaged) or any("job" in value for value in lines.values) or any(map(_is_filled, found))


def _is_filled(path: Path) -> bool:
    return path.stat().st_size > 0


def check_place(path: Path) -> None:
    """Raise ConfigError where something other than a file is in the place of one that a run writes."""
    if path.is_dir():
        raise ConfigError(f"{path}: found a folder, expected a file or nothing; move it away, or take another --out")


def digest_of_run(config: SolveConfig) -> str:
    """Names the scratch of a run, so that a later process that goes on with it finds it again."""
    plain = {name: value for name, value in flat(config_to_json(config)).items() if name not in MAY_DIFFER}
    where = os.path.abspath(config.out)
    return hashlib.sha256(json.dumps([where, plain]).encode()).hexdigest()[:16]
