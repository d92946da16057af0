"""Folders of micro-step models: micro.json and new modules beside two plain folders, base/ and reference/."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from arc_kaggle.config.micro import BASE, MICRO_FILE, REFERENCE, MicroConfig
from arc_kaggle.config.model import ModelOptions
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.micro.network import MicroLM
from arc_kaggle.models.card import ModelCard, write_card
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.system.files import write_json

WEIGHTS = "micro.safetensors"


def save_micro(model: LoadedModel, folder: Path, base: Any, recipe: str, facts: dict[str, Any]) -> None:
    """Write a micro-step model; `base` is the plain network that its base is, without adapters, and `recipe` its own.

    The whole is not fine-tuned on a task.
    """
    from safetensors.torch import save_file

    network: Any = model.network
    folder.mkdir(parents=True, exist_ok=True)
    save_model(replace(model, network=base), folder / BASE, recipe, facts)
    network.reference[0].save_pretrained(folder / REFERENCE)
    modules = {name: part for name in ("merger", "micro") for name, part in _named(network, name)}
    save_file(modules, folder / WEIGHTS)
    config = {name: value for name, value in asdict(network.micro_config).items() if name != "reference"}
    write_json(folder / MICRO_FILE, config)
    write_card(folder, ModelCard.of(model.notation, "none", facts))


def _named(network: Any, name: str) -> list[tuple[str, torch.Tensor]]:
    """Tensors of a module of the network, under their full names."""
    state = getattr(network, name).state_dict()
    return [(f"{name}.{key}", tensor.detach().contiguous().cpu()) for key, tensor in state.items()]


def read_micro_config(folder: Path) -> MicroConfig:
    """The options that a model was made with. Raises ModelError."""
    try:
        return MicroConfig(**json.loads((folder / MICRO_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ConfigError) as error:
        raise ModelError(f"{folder / MICRO_FILE}: {error}, expected the options of a micro-step model") from error


def load_micro(folder: Path, options: ModelOptions) -> LoadedModel:
    """Load a micro-step model for answers. Raises ModelError, PromptError."""
    from safetensors.torch import load_file

    config = read_micro_config(folder)
    asked = options.precision, options.device, options.prompt, options.encoder
    base = load_model(folder / BASE, *asked)
    network = MicroLM(base.network, config, load_network(folder / REFERENCE, torch.float32).to(base.device))
    try:
        weights = load_file(folder / WEIGHTS)
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS}: {error}, expected the weights of merger and micro decoder") from error
    if unexpected or any(not name.startswith("base.") for name in missing):
        raise ModelError(f"{folder / WEIGHTS}: weights that do not fit {MICRO_FILE}")
    return replace(base, network=network.eval())
