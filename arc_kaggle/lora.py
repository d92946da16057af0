"""Weights that test-time fine-tuning may change: a LoRA adapter, or all weights of a small model. Both can be reset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from arc_kaggle.errors import ConfigError
from arc_kaggle.model import LoadedModel
from arc_kaggle.recipe import LoraConfig


class TunableWeights(Protocol):
    """Weights of a model that can be tuned for a task and brought back."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer may change."""
        ...

    def reset(self, seed: int) -> None:
        """Bring the model back to exactly the base; `seed` draws the adapter's next beginning."""
        ...


class LoraAdapter:
    """The adapter of one task, attached once per process and reset between tasks. The base is frozen."""

    def __init__(self, model: LoadedModel, config: LoraConfig) -> None:
        import peft

        modules = config.modules[0] if config.modules == ("all-linear",) else _known(config.modules, model.network)
        lora = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            use_rslora=config.rslora,
            target_modules=modules,
            task_type="CAUSAL_LM",
        )
        try:
            self.peft_model: Any = peft.get_peft_model(model.network, lora)
        except ValueError as error:
            raise ConfigError(f"LoRA modules {config.modules}: {error}") from error
        self.layers = [layer for layer in self.peft_model.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.peft_model.parameters() if parameter.requires_grad]

    def reset(self, seed: int) -> None:
        """One factor is zero again, the other drawn anew from `seed`: the model answers as the base does."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in self.layers:
                layer.reset_lora_parameters("default", init_lora_weights=True)

    def detach(self) -> None:
        """Take the adapter off the network for good; the base may be trained again."""
        self.peft_model.unload().requires_grad_(True)

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's format."""
        self.peft_model.save_pretrained(folder)


def _known(modules: Sequence[str], network: nn.Module) -> list[str]:
    """The names as they are, each in use in the network; peft itself passes over the unknown beside the known."""
    paths = [f".{path}" for path, _ in network.named_modules()]
    for name in modules:
        if not any(path.endswith(f".{name}") for path in paths):
            linear = sorted({p.rpartition(".")[2] for p, m in network.named_modules() if isinstance(m, nn.Linear)})
            raise ConfigError(f"LoRA modules: found no {name!r} in the model, expected all-linear or some of {linear}")
    return list(modules)


class AllWeights:
    """All weights of a small model; the base is a copy in memory that `reset` copies back."""

    def __init__(self, model: LoadedModel) -> None:
        self.network: Any = model.network
        self.base = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        for name, tensor in self.network.state_dict().items():
            tensor.copy_(self.base[name])
