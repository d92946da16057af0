"""`arc-kaggle bundle model`: what Kaggle wants to know of weights and adapters, with sizes and digests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from arc_kaggle.errors import ModelError
from arc_kaggle.kaggle.bundle.installer import sha256
from arc_kaggle.kaggle.bundle.manifest import DATASET_FILE, write_dataset_metadata
from arc_kaggle.system.files import write_atomically
from arc_kaggle.system.inputs import read_json_file

WEIGHTS_FILE = "weights.json"
OWN_FILES = (WEIGHTS_FILE, DATASET_FILE)


@dataclass(frozen=True, slots=True)
class WeightsConfig:
    """Describe a model folder or an adapter as a dataset: dataset-metadata.json, and weights.json with digests."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with config.json or adapter_config.json and *.safetensors."""
    owner: str = "OWNER"
    """Your name on Kaggle."""
    slug: str = ""
    """Name of the dataset; made of the folder's where empty."""
    title: str = ""
    """6 to 50 characters; the slug where empty."""
    licence: str = "other"
    """One of Kaggle's names of licences, such as CC0-1.0, MIT or other."""


def describe_weights(config: WeightsConfig) -> str:
    """Write the metadata of a folder into it; what it holds, as text. Raises ModelError or ConfigError."""
    folder = config.folder
    kind, base = _kind_of(folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in OWN_FILES)
    files = [{"file": p.relative_to(folder).as_posix(), "bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths]
    size = sum(path.stat().st_size for path in paths)
    value = {"kind": kind, "base": base, "bytes": size, "files": files}
    slug = config.slug or "arc-kaggle-" + re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    write_dataset_metadata(folder, config.title or slug.replace("-", " "), f"{config.owner}/{slug}", config.licence)
    write_atomically(folder / WEIGHTS_FILE, json.dumps(value, indent=1) + "\n")
    on = f" on {base}" if base else ""
    return f"{folder}: {kind}{on}, {len(files)} files, {size / 1e6:.1f} MB, for dataset {config.owner}/{slug}"


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
