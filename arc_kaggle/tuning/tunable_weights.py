"""Weights that test-time fine-tuning may change: a LoRA adapter, or all weights of a small model. Both can be reset."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.vocabulary_cut import CutTokenizer
from arc_kaggle.tuning.pretrained import attach, write_trained_tokens
from arc_kaggle.tuning.saved_weights import bits

ADAPTABLE = (nn.Linear, nn.Embedding)

WEIGHTS_FILE = "weights.safetensors"


class TunableWeights(Protocol):
    """Weights of a model that can be tuned for a task and brought back."""

    def training(self) -> AbstractContextManager[list[nn.Parameter]]:
        """Within it: what the optimizer may change."""
        ...

    def reset(self, seed: int) -> None:
        """Bring the model back to exactly the base; `seed` draws the adapter's next beginning."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was tuned into a folder that exists, bit for bit."""
        ...

    def load(self, folder: Path) -> None:
        """Bring the model to what was saved there; only for a folder that is known to fit."""
        ...

    @property
    def n_bytes(self) -> int:
        """Most bytes that `save` writes."""
        ...


class LoraAdapter:
    """The adapter of one task, attached once per process and reset between tasks. The base is frozen.

    On embeddings and head it is plain factors, never full copies (peft's modules_to_save), which vLLM cannot load.
    Where the base ties the two, they stay tied: one frozen weight under two adapters, whose factors are not tied.
    With a pretrained adapter, tuning goes on from it and a reset comes back to it; `config` then says nothing.
    """

    def __init__(self, model: LoadedModel, config: LoraConfig, pretrained: Path | None = None) -> None:
        import peft

        self.kept = kept_tokens(model)
        self.peft_model: Any = attach(model.network, pretrained, self.kept) if pretrained else _new(model, config)
        self.layers = [layer for layer in self.peft_model.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]
        self.start = [factor.detach().clone() for factor in self.parameters] if pretrained else []

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.peft_model.parameters() if parameter.requires_grad]

    def training(self) -> AbstractContextManager[list[nn.Parameter]]:
        return nullcontext(self.parameters)

    def reset(self, seed: int) -> None:
        """The pretrained adapter comes back bit for bit. Without one, one factor is zero again and the other drawn anew
        from `seed`: the model answers as the base does.
        """
        if self.start:
            for factor, start in zip(self.parameters, self.start, strict=True):
                factor.data.copy_(start)
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in self.layers:
                layer.reset_lora_parameters("default", init_lora_weights=True)

    def detach(self) -> None:
        """Take the adapter off the network for good; the base may be trained again."""
        for parameter in self.peft_model.unload().parameters():
            parameter.requires_grad_(parameter.is_floating_point())  # weights in 4 bits cannot be trained

    def save(self, folder: Path) -> None:
        """Write the adapter in peft's format: its factors alone, as vLLM loads them."""
        self.peft_model.save_pretrained(folder, save_embedding_layers=False)
        write_trained_tokens(folder, self.kept)

    def load(self, folder: Path) -> None:
        import peft
        from safetensors.torch import load_file

        peft.set_peft_model_state_dict(self.peft_model, load_file(folder / "adapter_model.safetensors"))

    @property
    def n_bytes(self) -> int:
        return _most_bytes(self.parameters)


def _new(model: LoadedModel, config: LoraConfig) -> Any:
    """The peft model of a network with a new adapter on it. Raises ConfigError for modules that it does not have."""
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
        with warnings.catch_warnings():  # peft warns of merging into tied weights; nothing is merged here
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            return peft.get_peft_model(model.network, lora)
    except ValueError as error:
        raise ConfigError(f"LoRA modules {config.modules}: {error}") from error


def kept_tokens(model: LoadedModel) -> tuple[int, ...] | None:
    """Ids of the tokens that a cut vocabulary kept; None for a whole one."""
    tokenizer = model.notation.tokenizer
    return tokenizer.kept if isinstance(tokenizer, CutTokenizer) else None


def _known(modules: Sequence[str], network: nn.Module) -> list[str]:
    """The names as they are, each in use in the network; peft itself passes over the unknown beside the known."""
    paths = [f".{path}" for path, _ in network.named_modules()]
    for name in modules:
        if not any(path.endswith(f".{name}") for path in paths):
            known = sorted({p.rpartition(".")[2] for p, m in network.named_modules() if isinstance(m, ADAPTABLE)})
            raise ConfigError(f"LoRA modules: found no {name!r} in the model, expected all-linear or some of {known}")
    return list(modules)


class AllWeights:
    """All weights of a small model; the base is a copy in memory that `reset` copies back."""

    def __init__(self, model: LoadedModel) -> None:
        self.network = model.network
        self.base = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def training(self) -> AbstractContextManager[list[nn.Parameter]]:
        return nullcontext(list(self.network.parameters()))

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        for name, tensor in self.network.state_dict().items():
            tensor.copy_(self.base[name])

    def save(self, folder: Path) -> None:
        """Write the tensors that are not bit for bit those of the base, as they are held."""
        from safetensors.torch import save_file

        changed = {name: t for name, t in self._tensors().items() if not torch.equal(bits(t), bits(self.base[name]))}
        save_file({name: tensor.contiguous() for name, tensor in changed.items()}, folder / WEIGHTS_FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        changed = load_file(folder / WEIGHTS_FILE)
        for name, tensor in self._tensors().items():
            tensor.copy_(changed.get(name, self.base[name]))

    @property
    def n_bytes(self) -> int:
        return _most_bytes(self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        """The state dict, tensors that share their memory once."""
        found = {tensor.data_ptr(): (name, tensor) for name, tensor in reversed(self.network.state_dict().items())}
        return dict(found.values())


def _most_bytes(tensors: Iterable[Tensor]) -> int:
    """Of a folder with these tensors: their names, configs and checksums as well."""
    return sum(tensor.nbytes + 512 for tensor in tensors) + 2**15
