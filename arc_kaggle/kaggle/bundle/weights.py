"""`arc-kaggle bundle model`: what Kaggle wants to know of weights and adapters, with sizes and digests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Annotated, Any

import tyro

from arc_kaggle.config.model import CARD_FILE
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.evaluation.model_folders import TOKENIZER_FILES
from arc_kaggle.kaggle.bundle.installer import second_name, sha256
from arc_kaggle.kaggle.bundle.manifest import DATASET_FILE, checked_title, write_dataset_metadata
from arc_kaggle.system.files import write_json
from arc_kaggle.system.inputs import read_json_file

WEIGHTS_FILE = "weights.json"
OWN_FILES = (WEIGHTS_FILE, DATASET_FILE)
NEEDED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *(*TOKENIZER_FILES, "added_tokens.json", CARD_FILE, "README*", "LICENSE*", "NOTICE*"),
)
"""Files of a model or an adapter that a run reads, or that say whose they are."""


@dataclass(frozen=True, slots=True)
class WeightsConfig:
    """Describe a model folder or an adapter as a dataset: dataset-metadata.json, and weights.json with digests."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with config.json or adapter_config.json and *.safetensors."""
    out: Path | None = None
    """Folder to put what a run needs into, without the checkpoints and logs of its training. It must not be there.
    Where it is not given, the folder itself is described, which then may hold nothing else."""
    owner: str = "OWNER"
    """Your name on Kaggle."""
    slug: str = ""
    """Name of the dataset; made of the folder's where empty."""
    title: str = ""
    """6 to 50 characters; the slug where empty."""
    licence: str = "other"
    """One of Kaggle's names of licences, such as CC0-1.0, MIT or other."""


def describe_weights(config: WeightsConfig) -> str:
    """Write the metadata of what a run needs of a folder; what that is, as text. Raises ModelError or ConfigError."""
    kind, base = _kind_of(config.folder)
    slug = config.slug or "arc-kaggle-" + re.sub(r"[^a-z0-9]+", "-", config.folder.resolve().name.lower()).strip("-")
    title = checked_title(config.title or slug.replace("-", " "))
    paths = sorted({path for pattern in NEEDED for path in config.folder.glob(pattern) if path.is_file()})
    folder = config.folder if config.out is None else _gather(paths, config.out)
    if config.out is None:
        _check_alone(folder, paths)
    files = [{"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]
    size = sum(path.stat().st_size for path in paths)
    write_dataset_metadata(folder, title, f"{config.owner}/{slug}", config.licence)
    write_json(folder / WEIGHTS_FILE, {"kind": kind, "base": base, "bytes": size, "files": files})
    on = f" on {base}" if base else ""
    return f"{folder}: {kind}{on}, {len(files)} files, {size / 1e6:.1f} MB, for dataset {config.owner}/{slug}"


def _gather(paths: Sequence[Path], out: Path) -> Path:
    """A new folder with some files; weights take no more space where the file system has links. Raises ConfigError."""
    try:
        out.mkdir(parents=True)
        for path in paths:
            (second_name if path.suffix == ".safetensors" else copyfile)(path.resolve(), out / path.name)
    except OSError as error:
        raise ConfigError(f"out {out}: cannot be made ({error.strerror}); take another --out") from error
    return out


def _check_alone(folder: Path, paths: Sequence[Path]) -> None:
    """A folder is uploaded as a whole. Raises ModelError where it holds more than a run needs."""
    others = [path for path in folder.rglob("*") if path.is_file() and path.name not in OWN_FILES and path not in paths]
    if others:
        size = sum(path.stat().st_size for path in others) / 1e6
        raise ModelError(
            f"folder {folder}: found {len(others)} files ({size:.1f} MB) that no run needs, such as "
            f"{min(others).relative_to(folder)}; name a folder by --out, which leaves them behind"
        )


def _kind_of(folder: Path) -> tuple[str, str | None]:
    """What a folder holds, and on which base an adapter is."""
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"folder {folder}: found no *.safetensors, expected weights or an adapter")
    if (folder / "adapter_config.json").is_file():
        return "adapter", _read(folder / "adapter_config.json").get("base_model_name_or_path")
    if not (folder / "config.json").is_file():
        raise ModelError(f"folder {folder}: found neither config.json nor adapter_config.json")
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"folder {folder}: found no tokenizer.json, without which the model cannot be asked; add it")
    return "model", None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json_file(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}, expected a JSON object") from error
    return value if isinstance(value, dict) else {}
