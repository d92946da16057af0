"""Command `merge`: it merges a LoRA adapter into its base model and writes a plain model folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from arc_kaggle.config.model import CARD_FILE
from arc_kaggle.evaluation.model_folders import TOKENIZER_FILES
from arc_kaggle.system.paths import written_folder
from arc_kaggle.system.steps import Steps


@dataclass(frozen=True, slots=True)
class MergeConfig:
    """Merge a LoRA adapter into its base; the adapter may have been trained on a cut vocabulary."""

    base: Positional[Path]
    """Hugging Face causal LM folder that the adapter belongs to."""
    adapter: Positional[Path]
    """Folder of the adapter, in peft's format."""
    out: Path
    """Folder to write."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Type of the weights that are written. In bf16 some of what the adapter learnt is rounded away."""
    overwrite: bool = False
    """Replace the folder where there is one."""


def run(config: MergeConfig) -> int:
    """Write the model folder, and say what it is."""
    steps = Steps("merge")
    steps(f"merging {config.adapter} into {config.base}")
    said = merge(config)
    steps.done()
    print(said)
    return 0


def merge(config: MergeConfig) -> str:
    """Write the folder, as a whole or not at all; returns a line about it. Raises ConfigError, ModelError."""
    with written_folder(config.out, "config.json", config.overwrite) as folder:
        _write(config, folder)
    return f"{config.out}: {config.adapter} merged into {config.base}, in {config.precision}"


def _write(config: MergeConfig, folder: Path) -> None:
    """Products are computed in fp32, whatever is written."""
    from arc_kaggle.models.loading import DTYPES
    from arc_kaggle.models.weight_files import load_network
    from arc_kaggle.tuning.pretrained import merge_in

    merged = merge_in(load_network(config.base, DTYPES["fp32"]), config.adapter)
    merged.to(DTYPES[config.precision]).save_pretrained(folder)
    for place in (config.base, config.adapter):
        for pattern in (*TOKENIZER_FILES, CARD_FILE):
            for path in place.glob(pattern):
                shutil.copy(path, folder)
