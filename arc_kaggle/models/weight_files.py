"""Networks from disk, never from the internet: weights that do not fit are refused by the names of their tensors.

transformers only warns of tensors that are missing, unexpected or renamed, and goes on with random weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from arc_kaggle.config.adapter import ADAPTER_FILE
from arc_kaggle.config.micro import check_plain
from arc_kaggle.errors import ModelError
from arc_kaggle.models.grid_network import GridNetwork, GridSizes
from arc_kaggle.models.memory_formulas import check_layers
from arc_kaggle.system.inputs import read_json_file

WEIGHT_PATTERNS = ("*.safetensors", "*.bin")
N_NAMED = 3
"""Tensors that a message names before it counts the rest."""


def load_network(folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """The causal LM of a folder, which must hold exactly the tensors of its config. Raises ModelError."""
    check_model_folder(folder)  # transformers takes seconds to import
    check_layers(folder)
    from safetensors import SafetensorError

    import arc_kaggle.models.grid_lm  # isort: skip  # noqa: F401  (registers the model type)
    from transformers import AutoModelForCausalLM

    try:
        network, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **options,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model folder {folder}: {one_line(error)}") from error
    mismatched = [name for name, *_ in info["mismatched_keys"]]
    names = {"missing": info["missing_keys"], "unexpected": info["unexpected_keys"], "of another shape": mismatched}
    _check_names(f"model folder {folder}", names, "those of its config.json")
    return network


def load_grid_network(folder: Path, dtype: torch.dtype) -> GridNetwork:
    """The GridLM of a folder without transformers, which takes longer to import than such a network to load.

    The folder must hold exactly the tensors of its config. Raises ModelError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_model_folder(folder)
    check_layers(folder)
    try:
        network, found = GridNetwork(GridSizes(read_json_file(folder / "config.json"))), dict[str, Tensor]()
        for path in sorted(folder.glob("*.safetensors")):
            found.update(load_file(path))
    except (OSError, ValueError, AttributeError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model folder {folder}: {one_line(error)}") from error
    expected = network.state_dict()
    both = expected.keys() & found.keys()
    names = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "of another shape": {name for name in both if expected[name].shape != found[name].shape},
    }
    _check_names(f"model folder {folder}", names, "those of its config.json")
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in found.items()}, assign=True)
    return network


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is no model, or more than one. Raises ModelError; it reads no weights."""
    check_plain(folder)
    is_model, is_adapter = ((folder / name).is_file() for name in ("config.json", ADAPTER_FILE))
    weights = [path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern) if path.stem != "adapter_model"]
    if is_adapter and not weights:
        raise ModelError(
            f"model folder {folder}: found a LoRA adapter of the base {_base_of(folder)!r}, expected a whole model; "
            "give that base for the model and this folder for --adapter, or merge the two by `arc-kaggle merge`"
        )
    if is_adapter:
        raise ModelError(
            f"model folder {folder}: found {ADAPTER_FILE} beside full weights ({weights[0].name}), and one of them "
            "would be used without a word; move the adapter into a folder of its own"
        )
    if not is_model:
        raise ModelError(f"model folder {folder}: found no config.json, expected a Hugging Face causal LM folder")
    if not weights:
        raise ModelError(f"model folder {folder}: found no weights, expected {' or '.join(WEIGHT_PATTERNS)} in it")


def _check_names(where: str, found: Mapping[str, Iterable[str]], expected: str) -> None:
    """Raise ModelError where there are names of tensors under any kind of fault."""
    if parts := [f"{kind} {_listed(sorted(names))}" for kind, names in found.items() if names]:
        raise ModelError(
            f"{where}: found tensors that do not fit: {'; '.join(parts)}; expected {expected}; take the files of one "
            "model as they were saved together"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else "")


def _base_of(adapter: Path) -> str:
    """The base that an adapter's config names; "unknown" where it cannot be read."""
    try:
        config = json.loads((adapter / ADAPTER_FILE).read_text(encoding="utf-8"))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError):
        return "unknown"


def one_line(error: Exception) -> str:
    """An error of a library in one line of at most 400 characters."""
    return shorten(f"{type(error).__name__}: {error}", 400, placeholder=" ...")
