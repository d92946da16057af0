"""What was tuned, kept in scratch until its task is through: a folder a task, as many as the space allows."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arc_kaggle.config.adapter import TASK_FILE
from arc_kaggle.errors import ModelError
from arc_kaggle.system.files import write_json
from arc_kaggle.system.paths import remove_below, safe_name
from arc_kaggle.tuning.outcome import TuneReport

if TYPE_CHECKING:
    from arc_kaggle.tuning.tuner import Tuner


FREE_BYTES = 2**28
"""Left free on the disk, for whatever else writes there."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """Tuned weights by task id. What has gone, or was damaged, is tuned again by whoever wants it."""

    folder: Path
    most_bytes: float

    def save(self, task_id: str, tuner: Tuner) -> str:
        """Keep what was tuned last, in place of what was not used for longest; says why it could not be kept."""
        try:
            self._make_room(tuner.n_bytes, but=safe_name(task_id))
            self.folder.mkdir(parents=True, exist_ok=True)
            tuner.save(self._folder_of(task_id))
        except (OSError, ModelError) as error:
            return f"the adapter was not kept: {error}"
        return ""

    def _make_room(self, n_bytes: int, but: str) -> None:
        """Raises OSError where what is wanted is more than there may be, or more than the disk has."""
        kept = sorted(self.folder.glob("[!.]*"), key=_last_used) if self.folder.is_dir() else []
        sizes = {path: _size(path) for path in kept if path.name != but}
        for path in list(sizes):
            if sum(sizes.values()) + n_bytes <= self.most_bytes and self._free() >= n_bytes + FREE_BYTES:
                break
            self._remove(path)
            del sizes[path]
        if n_bytes > self.most_bytes:
            raise OSError(f"it has {n_bytes} bytes, expected {self.most_bytes:.0f} or fewer; raise --scratch-gb")
        if self._free() < n_bytes + FREE_BYTES:
            raise OSError(f"{self.folder}: {self._free()} bytes are free, it wants {n_bytes} and {FREE_BYTES} beside")

    def _free(self) -> int:
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return shutil.disk_usage(there).free

    def load(self, task_id: str, tuner: Tuner) -> bool:
        """Bring the model to what was tuned on a task; False where that is not there whole."""
        folder = self._folder_of(task_id)
        try:
            tuner.load(folder)
            os.utime(folder)
        except (OSError, ModelError):
            return False
        return True

    def drop(self, task_id: str) -> None:
        self._remove(self._folder_of(task_id))

    def _folder_of(self, task_id: str) -> Path:
        return self.folder / safe_name(task_id)

    def _remove(self, path: Path) -> None:
        with suppress(OSError):  # another worker removes it too, or it is not this run's
            remove_below(self.folder, path)


def keep_for_good(folder: Path, task_id: str, tuner: Tuner) -> str:
    """Write what was tuned on a task into a folder of the user's; says why it could not be kept."""
    place = folder / safe_name(task_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tuner.save(place)
        write_json(place / TASK_FILE, {"task_id": task_id})
    except (OSError, ModelError) as error:
        return f"the adapter was not kept: {error}"
    return ""


def take_kept(folder: Path, task_id: str, tuner: Tuner) -> TuneReport:
    """Bring the model to what an earlier run tuned on a task and kept; where that is not there it stays the base."""
    place = folder / safe_name(task_id)
    if not (place / TASK_FILE).is_file():
        return TuneReport(False, f"no tuned weights of the task in {folder}")
    try:
        tuner.load(place)
    except ModelError as error:
        tuner.reset()
        return TuneReport(False, str(error))
    return TuneReport(True, f"before, in {place}")


def _last_used(path: Path) -> float:
    with suppress(OSError):  # another worker made room
        return path.stat().st_mtime
    return 0.0


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
