"""Finds the models to judge: folders of models and LoRA adapters, named or below a named folder, in training order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from arc_kaggle.config.adapter import ADAPTER_FILE
from arc_kaggle.config.micro import MICRO_FILE, PARTS, has_micro_steps
from arc_kaggle.errors import ModelError
from arc_kaggle.models.card import ModelCard, read_card
from arc_kaggle.system.inputs import open_input_file, read_json_file

TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "chat_template*")
MODEL_FILES = ("config.json", "model*.safetensors", "pytorch_model*.bin", "adapter_*", *TOKENIZER_FILES)
MICRO_FILES = ("micro.*", *(f"{part}/{name}" for part in PARTS for name in MODEL_FILES))
"""The files of a model folder that its answers depend on, beside its card; and those of a micro-step model."""
PART_OF_TRAINING = re.compile(r"checkpoints|step-\d+|ema|best")
"""Names of folders that `train` makes in its own."""
Stamp = list[tuple[str, int, int]]
"""Path, size in bytes and time of change in nanoseconds of some files."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelFolder:
    """A model, or a LoRA adapter and its base."""

    name: str
    """Unique among those found together."""
    series: str
    """The name without the step: models of one series are one training at different times."""
    folder: Path
    base: Path | None
    """The model folder that an adapter belongs to; None for a model."""
    card: ModelCard | None
    digest: str
    """Of all files that its answers depend on; the card's facts are none of that."""
    stamp: Stamp
    """Sizes and times of these files."""

    @property
    def step(self) -> int | None:
        """Optimizer steps of its training, by its card."""
        steps = self.card.facts.get("steps") if self.card else None
        return steps if isinstance(steps, int) else None

    @property
    def tokens(self) -> int | None:
        """Tokens it was trained on, by its card; those of the model that training went on from are counted in."""
        facts, tokens = self.card.facts if self.card else None, None
        while isinstance(facts, dict):
            tokens = (tokens or 0) + facts["tokens"] if "tokens" in facts else tokens
            facts = facts.get("started_from")
        return tokens

    def check_unchanged(self) -> None:
        """Raise ModelError where a file was written to since the digest was taken."""
        if _stamp(self.folder, self.base) != self.stamp:
            raise ModelError(
                f"model {self.folder}: changed while it was being judged; judge a checkpoint that stays, such as "
                "checkpoints/step-NNN, or a copy"
            )


def find_model_folders(places: Sequence[Path], base: Path | None = None) -> list[ModelFolder]:
    """Every model and adapter in some folders or below them, each once; those of one training by their steps.

    `base` is the model that adapters belong to, where they do not name a folder themselves. Raises ModelError.
    """
    found = [model for place in places for model in _find(place, base)]
    series = list(dict.fromkeys(model.series for model in found))
    distinct: dict[str, ModelFolder] = {}
    # of equal ones the deepest stays: a training folder's own model is replaced as training goes on
    for model in sorted(found, key=lambda m: (series.index(m.series), m.step or 0, -len(m.folder.parts))):
        distinct.setdefault(model.digest, model)
    names = [model.name for model in distinct.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        where = " and ".join(str(model.folder) for model in distinct.values() if model.name == twice[0])
        raise ModelError(f"models {where}: found the name {twice[0]!r} for both; evaluate them into different --out")
    return list(distinct.values())


def _find(place: Path, base: Path | None) -> list[ModelFolder]:
    try:
        found = [_read(folder, place, base) for folder in _search(place)]
    except OSError as error:
        raise ModelError(f"{place}: found {error.filename}, which cannot be read ({error.strerror})") from error
    if not found:
        raise ModelError(f"{place}: found neither a model's config.json nor {ADAPTER_FILE} in it or below")
    return found


def _search(place: Path) -> Iterator[Path]:
    """The folders of models and adapters in and below a place; hidden and half-written ones are passed over, and so are
    the plain folders within a micro-step model.
    """
    names = ("config.json", ADAPTER_FILE, MICRO_FILE)
    for folder in sorted({path.parent for name in names for path in place.rglob(name)}):
        below = folder.relative_to(place).parts
        passed = any(part.startswith(".") or part.endswith(".partial") for part in below)
        passed |= any(has_micro_steps(place.joinpath(*below[:n])) for n in range(len(below)))
        if not passed and _is_model(folder):
            yield folder


def _is_model(folder: Path) -> bool:
    return _is_adapter(folder) or has_micro_steps(folder) or "model_type" in _read_json(folder / "config.json")


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_FILE).is_file()


def _read(folder: Path, place: Path, base: Path | None) -> ModelFolder:
    names = _names(folder.resolve(), place.resolve())
    base = _base_of(folder, base) if _is_adapter(folder) else None
    stamp = _stamp(folder, base)  # before the digest, so that no change falls between the two
    card, base_card = read_card(folder), read_card(base) if base else None
    if card is None and base_card is not None:
        card = replace(base_card, facts={})  # how the base was made says nothing of the adapter
    return ModelFolder(*names, folder, base, card, _digest(_files(folder, base), card), stamp)


def _names(folder: Path, place: Path) -> tuple[str, str]:
    """Name and series of a folder found below a place, told from the folder of the whole training on."""
    while PART_OF_TRAINING.fullmatch(place.name):
        place = place.parent
    parts = [place.name, *(part for part in folder.relative_to(place).parts if part != "checkpoints")]
    return ".".join(parts), ".".join(part for part in parts if not part.startswith("step-"))


def _base_of(adapter: Path, base: Path | None) -> Path:
    named = _read_json(adapter / ADAPTER_FILE).get("base_model_name_or_path")
    for folder in (base, Path(named) if named else None):
        if folder is not None and (folder / "config.json").is_file():
            return folder
    raise ModelError(
        f"adapter {adapter}: found no model folder as its base ({named!r} by its {ADAPTER_FILE}, {base} by --base); "
        "name one by --base"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = read_json_file(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}, expected a JSON object") from error
    return value if isinstance(value, dict) else {}


def _files(*folders: Path | None) -> list[Path]:
    """The model files of some folders, each folder's in order."""
    found = (
        {path for pattern in (MICRO_FILES if has_micro_steps(folder) else MODEL_FILES) for path in folder.glob(pattern)}
        for folder in folders
        if folder
    )
    return [path for paths in found for path in sorted(paths)]


def _stamp(*folders: Path | None) -> Stamp:
    stats = ((str(path), path.stat()) for path in _files(*folders))
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _digest(files: Sequence[Path], card: ModelCard | None) -> str:
    """SHA-256 of files by name and content, and of the card without its facts."""
    whole = hashlib.sha256(json.dumps({**asdict(card), "facts": None} if card else None).encode())
    for path in files:
        with open_input_file(path) as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
