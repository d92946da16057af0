"""Checkpoints: all that a run needs to go on bit for bit, written as a whole or not at all.

The data and the random numbers of a step follow from the seed and the step, so that the step stands for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.system.files import digest, flush, write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import remove_below

STATE_FILE, ABOUT_FILE = "state.pt", "about.json"


@dataclass(slots=True)
class Progress:
    """The progress of a run, summed over all its resumed parts."""

    step: int = 0
    tokens: int = 0
    """Tokens without padding."""
    seconds: float = 0.0
    time_share: float = 0.0
    """The share of its time limit that a run has used, 0..1; 0 without a limit."""

    def is_through(self, n_steps: int) -> bool:
        """Whether a run of so many steps makes none more."""
        return self.step >= n_steps or self.time_share >= 1


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint as a value; `state` is what torch.save takes: weights in fp32, optimizer, moving average."""

    progress: Progress
    settings: Mapping[str, Any]
    """The options of the run that shape its results."""
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int, save_model: Callable[[Path], None]) -> None:
    """Write `folder/step-N` under another name, then rename it; then delete all but the newest `keep`.

    `save_model` makes a model folder of it, too, so that every checkpoint can be evaluated.
    """
    target = folder / f"step-{checkpoint.progress.step:08}"
    partial = folder / f"{target.name}.partial"
    for stale in (partial, target):
        remove_below(folder, stale)
    partial.mkdir(parents=True)
    save_model(partial)
    torch.save(checkpoint.state, partial / STATE_FILE)
    about = {
        "progress": asdict(checkpoint.progress),
        "settings": dict(checkpoint.settings),
        "sha256": digest(partial / STATE_FILE),
    }
    write_json(partial / ABOUT_FILE, about)
    for path in (partial / STATE_FILE, partial / ABOUT_FILE, partial):
        flush(path)
    partial.rename(target)
    flush(folder)
    for old in checkpoint_folders(folder)[:-keep]:
        remove_below(folder, old)


def checkpoint_folders(folder: Path) -> list[Path]:
    """The folders of complete checkpoints, the newest last."""
    return sorted(path for path in folder.glob("step-*") if not path.name.endswith(".partial"))


def load_checkpoint(folder: Path, settings: Mapping[str, Any]) -> Checkpoint | None:
    """Load the newest checkpoint; None if there is none.

    Raises ConfigError where it was made with other settings, ModelError where its content is not what was written.
    """
    if not (found := checkpoint_folders(folder)):
        return None
    newest = found[-1]
    try:
        about = read_json_file(newest / ABOUT_FILE)
        progress, made_with, expected = Progress(**about["progress"]), about["settings"], about["sha256"]
        sound = digest(newest / STATE_FILE) == expected
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"checkpoint {newest}: {error!r}, {_way_out(newest)}") from error
    if not sound:
        raise ModelError(f"checkpoint {newest}: the checksum of {STATE_FILE} differs, {_way_out(newest)}")
    check_settings(newest, made_with, settings)
    state = torch.load(newest / STATE_FILE, map_location="cpu", weights_only=True)
    return Checkpoint(progress, made_with, state)


def _way_out(newest: Path) -> str:
    return f"expected what was written; delete this folder to go on from the one before it ({newest.parent})"


def check_settings(where: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise ConfigError that names the options by which two runs differ."""
    there, now = dict(_dotted(found)), dict(_dotted(expected))
    names = [name for name in sorted({*there, *now}) if there.get(name) != now.get(name)]
    if names:
        differ = "; ".join(f"{name}: found {there.get(name)!r} there, {now.get(name)!r} now" for name in names)
        raise ConfigError(
            f"checkpoint {where}: made with other options: {differ}. Give the same to go on, or choose another --out, "
            f"or delete {where.parent} to begin anew, which replaces OUT and its best model"
        )


def _dotted(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Flatten options to the dotted names that they have on the command line."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in _dotted(value))
        else:
            yield name, value
