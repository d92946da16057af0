"""What is mounted on Kaggle: competitions, models, adapters, wheel bundles, other notebooks. Found by content.

Kaggle mounts the same thing at different places: `ROOT/SLUG`, or `ROOT/competitions/SLUG`,
`ROOT/datasets/OWNER/SLUG`, `ROOT/models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`, `ROOT/notebooks/OWNER/SLUG`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_kaggle.config.adapter import ADAPTER_FILE, TASK_FILE
from arc_kaggle.errors import MountError
from arc_kaggle.kaggle.bundle.installer import MANIFEST_FILE, ROOT_VARIABLE, read_manifest

RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
TEST_FILE = "arc-agi_test_challenges.json"
DEPTH = 8
"""Folders below the root that are looked into: a model lies six deep, and may have folders of its own."""


def input_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where Kaggle mounts what a notebook has attached; ARC_KAGGLE_INPUT may name another folder."""
    return Path(environ.get(ROOT_VARIABLE) or "/kaggle/input")


def is_rerun(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the run that counts, with the hidden tasks in place of the visible ones."""
    return environ.get(RERUN_VARIABLE, "").lower() not in ("", "0", "false")


@dataclass(frozen=True, slots=True)
class Mounts:
    """Folders below `root`, each found by a file in it."""

    root: Path
    competitions: tuple[Path, ...] = ()
    """They hold arc-agi_test_challenges.json. Of equal ones the first."""
    models: tuple[Path, ...] = ()
    """They hold config.json and *.safetensors. What lies in one, such as checkpoints, is part of it."""
    adapters: tuple[Path, ...] = ()
    """They hold adapter_config.json and *.safetensors, and are no tuned weights of a single task."""
    bundles: tuple[Path, ...] = ()
    """They hold the manifest of a wheel bundle."""
    notebooks: tuple[Path, ...] = ()
    """Outputs of other notebooks."""

    def competition(self, wanted: str = "auto") -> Path:
        """The competition to answer: the only one, or the one with `wanted` in its path. Raises MountError."""
        way_out = "let COMPETITION in the config cell name part of the path of one"
        return self._pick(self.competitions, wanted, f"competition ({TEST_FILE})", way_out)

    def model(self, wanted: str = "auto") -> Path:
        """The model to ask, likewise. Raises MountError."""
        way_out = "let MODEL in the config cell name part of the path of one"
        return self._pick(self.models, wanted, "model (config.json and *.safetensors)", way_out)

    def adapter(self, wanted: str = "auto") -> Path | None:
        """The LoRA adapter on that model, likewise; None for `none`, and where there is none for `auto`.

        Raises MountError.
        """
        if wanted == "none" or (wanted == "auto" and not self.adapters):
            return None
        way_out = "let ADAPTER in the config cell name part of the path of one, or none"
        return self._pick(self.adapters, wanted, f"adapter ({ADAPTER_FILE} and *.safetensors)", way_out)

    def bundle(self) -> Path:
        """The wheel bundle that is attached. Raises MountError."""
        return self._pick(self.bundles, "auto", "wheel bundle (manifest.json)", "detach the others")

    def _pick(self, found: Sequence[Path], wanted: str, what: str, way_out: str) -> Path:
        names = [folder.relative_to(self.root).as_posix() for folder in found]
        chosen = _named(names, wanted)
        if len(chosen) == 1:
            return found[chosen[0]]
        fitting = "" if wanted == "auto" else f" with {wanted!r} in its path"
        if not chosen:
            there = f"; there are {', '.join(names)}: {way_out}" if names else ""
            raise MountError(
                f"{self.root}: found no {what}{fitting}, expected one; attach it to the notebook by Add Input{there}"
            )
        several = ", ".join(names[i] for i in chosen)
        raise MountError(f"{self.root}: found {len(chosen)} of {what}{fitting}: {several}; expected one; {way_out}")

    @property
    def text(self) -> str:
        """A line for each kind of thing, relative to the root."""
        kinds = ("competitions", "models", "adapters", "bundles", "notebooks")
        lines = ((kind, [path.relative_to(self.root).as_posix() for path in getattr(self, kind)]) for kind in kinds)
        return "\n".join(f"{kind:<14}{', '.join(names) or 'none'}" for kind, names in lines)


def find_mounts(root: Path | None = None) -> Mounts:
    """Look through everything below `root`, /kaggle/input where not given. What is not there is not an error."""
    root = input_root() if root is None else root
    found: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for folder, names in _walk(root):
        for kind, is_one in KINDS.items():
            if is_one(folder, names):
                found[kind].append(folder)
    found["competitions"] = _distinct(found["competitions"])
    for kind in ("models", "adapters"):  # checkpoints are part of what they lie in
        found[kind] = [each for each in found[kind] if not set(each.parents) & set(found[kind])]
    return Mounts(root, **{kind: tuple(folders) for kind, folders in found.items()})


def _walk(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders and the names of their files, by path; hidden ones and those that were seen elsewhere are passed over."""
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        stat = os.stat(place)
        again = (stat.st_dev, stat.st_ino) in seen
        deep = len(Path(place).relative_to(root).parts) >= DEPTH
        folders[:] = [] if deep or again else sorted(name for name in folders if not name.startswith("."))
        if not again:
            seen.add((stat.st_dev, stat.st_ino))
            yield Path(place), set(names)


def _named(names: Sequence[str], wanted: str) -> list[int]:
    """Positions of the paths that `wanted` is a whole part of, or where there are none, some text of."""
    if wanted == "auto":
        return list(range(len(names)))
    whole = [i for i, name in enumerate(names) if wanted in (name, *name.split("/"))]
    return whole or [i for i, name in enumerate(names) if wanted.lower() in name.lower()]


def _has_weights(names: set[str]) -> bool:
    return any(name.endswith(".safetensors") for name in names)


def _is_model(names: set[str]) -> bool:
    return "config.json" in names and ADAPTER_FILE not in names and _has_weights(names)


KINDS: dict[str, Callable[[Path, set[str]], bool]] = {
    "competitions": lambda folder, names: TEST_FILE in names,
    "models": lambda folder, names: _is_model(names),
    "adapters": lambda folder, names: ADAPTER_FILE in names and _has_weights(names) and TASK_FILE not in names,
    "bundles": lambda folder, names: MANIFEST_FILE in names and read_manifest(folder) is not None,
    "notebooks": lambda folder, names: "__notebook__.ipynb" in names,
}


def _distinct(folders: Sequence[Path]) -> list[Path]:
    """Folders whose test files differ: a competition that is mounted in both conventions is one."""
    by_content: dict[bytes, Path] = {}
    for folder in folders:
        by_content.setdefault(hashlib.sha256((folder / TEST_FILE).read_bytes()).digest(), folder)
    return list(by_content.values())
