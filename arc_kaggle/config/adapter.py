"""A LoRA adapter's own description, as peft writes it beside the factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.errors import ModelError
from arc_kaggle.system.inputs import read_json_file

ADAPTER_FILE = "adapter_config.json"
FACTORS_FILE = "adapter_model.safetensors"
TASK_FILE = "task.json"
"""Beside the tuned weights of a task that were kept: the task's id."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The description of an adapter. Raises ModelError where there is none, or it is none of LoRA."""
    path = folder / ADAPTER_FILE
    if not path.is_file():
        what = "a model of its own" if (folder / "config.json").is_file() else "no such file"
        raise ModelError(f"adapter {folder}: found {what}, expected a LoRA adapter with {ADAPTER_FILE}")
    try:
        value = read_json_file(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}, expected a JSON object") from error
    kind = value.get("peft_type") if isinstance(value, dict) else None
    if kind != "LORA":
        raise ModelError(f"{path}: found {kind!r} for its peft_type, expected 'LORA'")
    if str(init := value.get("init_lora_weights", True)).startswith(("pissa", "olora", "loftq", "corda")):
        raise ModelError(
            f"{path}: found init_lora_weights {init!r}, which changes the base, expected a plain beginning"
        )
    return dict(value)


def lora_of(folder: Path) -> LoraConfig:
    """Rank, scale and modules of an adapter; of several ranks the highest. Raises ModelError."""
    value = read_adapter_config(folder)
    modules = value.get("target_modules") or ()
    return LoraConfig(
        rank=max([value.get("r") or 0, *(value.get("rank_pattern") or {}).values()]),
        alpha=value.get("lora_alpha") or 0,
        rslora=bool(value.get("use_rslora")),
        modules=("all-linear",) if isinstance(modules, str) else tuple(sorted(modules)),
    )
