"""Command `convert-weights`: it writes the base part of a micro-step model as a plain model folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from arc_kaggle.config.micro import BASE, has_micro_steps
from arc_kaggle.errors import ModelError
from arc_kaggle.system.paths import written_folder


@dataclass(frozen=True, slots=True)
class ConvertWeightsConfig:
    """Write the base of a micro-step model as a plain folder, for every engine that takes a model of its type
    (docs/micro.md)."""

    model: Positional[Path]
    """Folder of the micro-step model."""
    out: Path
    """Folder to write."""
    overwrite: bool = False
    """Replace the folder where there is one."""


def run(config: ConvertWeightsConfig) -> int:
    """Write the folder, as a whole or not at all. Raises ConfigError, ModelError."""
    if not has_micro_steps(config.model):
        raise ModelError(f"model folder {config.model}: found no micro-step model, expected one that `train` has made")
    with written_folder(config.out, "config.json", config.overwrite) as folder:
        shutil.copytree(config.model / BASE, folder, dirs_exist_ok=True)
    print(f"{config.out}: the base of {config.model}, a plain model of one token a step")
    return 0
