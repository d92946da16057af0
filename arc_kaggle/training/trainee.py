"""The weights that are trained and how they are saved: all weights of a model, or a LoRA adapter on a frozen base."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arc_kaggle.config.micro import BASE, has_micro_steps
from arc_kaggle.config.model import card_folder, recipe_in_card
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.micro.folder import save_micro
from arc_kaggle.micro.network import MicroLM
from arc_kaggle.models.card import ModelCard, write_card
from arc_kaggle.models.loading import DTYPES, LoadedModel, load_model, load_text_model, pick_precision, save_model
from arc_kaggle.models.loss import SumsItsLoss, summed_loss
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.models.vocabulary_cut import cut_vocabulary
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.training.packing import pack
from arc_kaggle.tuning.pretrained import merge_in
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import fast_on_a_cpu, keep_freed_memory

Facts = dict[str, Any]
Weights = Mapping[str, nn.Parameter]


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """A model, its trained weights by name, and the function that writes them into a folder with a card."""

    model: LoadedModel
    weights: Weights
    save: Callable[[Path, Facts], None]

    def at_its_fastest(self) -> AbstractContextManager[None]:
        """Within it a CPU trains the model as it tunes one; not a compiled one, nor one of micro steps."""
        network: Any = self.model.network
        by_itself = isinstance(network, SumsItsLoss) or getattr(network.get_decoder(), "_compiled_call_impl", None)
        return nullcontext() if by_itself else fast_on_a_cpu(network)


def make_trainee(config: TrainConfig, device: torch.device) -> Trainee:
    """Make a new model, or load the one to start from. Trained weights are fp32, products as configured."""
    keep_freed_memory()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what is not computed in less
    model = replace(_load(config, device), autocast=_autocast(config, device))
    make = _micro if config.in_micro_steps else _lora if config.weights == "lora" else _all_weights
    trainee = make(model, config)
    trainee.model.network.train()
    if config.checkpointing and model.network.supports_gradient_checkpointing:
        model.network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.batching == "packed":
        check_packing(trainee.model)
    if config.compile:
        trainee.model.network.get_decoder().compile()
    return trainee


def _load(config: TrainConfig, device: torch.device) -> LoadedModel:
    alone = config.start is not None and config.weights == "all" and not config.adapter
    alone = alone and not config.on_prompts and not config.in_micro_steps
    if not alone:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # loading and saving a model show one of their own
    if config.start is None:
        sizes = config.hidden_size, config.n_layers, config.seed, None
        grid = config.architecture == "grid"
        model = new_grid_model(*sizes) if grid else new_model(*sizes)
        model.network.to(device)
        return model
    precision = config.precision if config.weights == "lora" else "fp32"
    if config.on_prompts:
        model = load_text_model(config.start, precision, str(device), config.four_bit, config.four_bit_skip)
    else:
        card = card_folder(config.start, config.adapter)
        asked = config.prompt, config.encoder, config.four_bit, card, config.four_bit_skip
        model = load_model(config.start, precision, str(device), *asked, alone=alone)
    if config.adapter and config.weights == "all":
        merge_in(model.network, config.adapter)
    return model


def _autocast(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    chosen = pick_precision(device, config.precision)
    return None if chosen == "fp32" else DTYPES[chosen]


def _all_weights(model: LoadedModel, config: TrainConfig) -> Trainee:
    model.network.float()
    if not config.cut_vocabulary:
        return Trainee(
            model, _trained_weights(model), lambda folder, facts: save_model(model, folder, config.recipe, facts)
        )
    cut = cut_vocabulary(model)

    def save(folder: Path, facts: Facts) -> None:
        whole = _load(config, torch.device("cpu"))
        put_back(cut.network.state_dict(), whole.network.state_dict(), cut.tokenizer.kept)
        save_model(whole, folder, config.recipe, facts)

    return Trainee(cut, _trained_weights(cut), save)


def _lora(model: LoadedModel, config: TrainConfig) -> Trainee:
    model = cut_vocabulary(model) if config.cut_vocabulary else model
    adapter = LoraAdapter(model, config.lora, config.adapter)
    adapter.reset(config.seed)

    def save(folder: Path, facts: Facts) -> None:
        adapter.save(folder)
        write_card(folder, ModelCard.of(model.notation, config.recipe, facts))

    return Trainee(model, _trained_weights(model), save)


def _micro(model: LoadedModel, config: TrainConfig) -> Trainee:
    """The base, or an adapter on it, with the new modules of a micro-step model. Raises ConfigError, ModelError."""
    assert config.start is not None, "the config says where it starts"
    place, recipe = config.micro.reference or config.start, recipe_in_card(card_folder(config.start, config.adapter))
    reference = load_network(place / BASE if has_micro_steps(place) else place, torch.float32).to(model.device)
    model.network.float()
    adapter = LoraAdapter(model, config.lora, config.adapter) if config.weights == "lora" else None
    if adapter:
        adapter.reset(config.seed)
    torch.manual_seed(config.seed)
    network: Any = MicroLM(model.network, config.micro, reference)
    whole = replace(model, network=network)

    def save(folder: Path, facts: Facts) -> None:
        base = deepcopy(adapter.peft_model).merge_and_unload() if adapter else model.network
        save_micro(whole, folder, base, recipe, facts)

    return Trainee(whole, _trained_weights(whole), save)


def _trained_weights(model: LoadedModel) -> Weights:
    return {name: weight for name, weight in model.network.named_parameters() if weight.requires_grad}


def first_stage_weights(weights: Weights, modules: tuple[str, ...]) -> Weights:
    """The weights of some modules, named by any part of their paths. Raises ConfigError for an unknown name."""
    for module in modules:
        if not any(f".{module}." in f".{name}." for name in weights):
            known = sorted({part for name in weights for part in name.split(".") if not part.isdigit()})
            raise ConfigError(f"option first_stage_modules: found no {module!r}, expected some of {', '.join(known)}")
    return {name: w for name, w in weights.items() if any(f".{module}." in f".{name}." for module in modules)}


@torch.no_grad()
def check_packing(model: LoadedModel) -> None:
    """Refuse a network in which an example sees another one before it in its row. Raises ConfigError."""
    network: Any = model.network
    n_tokens, rng = network.get_input_embeddings().num_embeddings, np.random.default_rng(0)
    last = Example(ids := rng.integers(n_tokens, size=40), ids)
    losses = []
    for _ in range(2):
        ids = rng.integers(n_tokens, size=30)
        batch = pack([[Example(ids, np.full_like(ids, NOT_TRAINED)), last]], 70, model.pad_id)
        arrays = (batch.ids, batch.labels, batch.positions)
        loss, _ = summed_loss(model, *(torch.from_numpy(array).to(model.device) for array in arrays))
        losses.append(loss.item())
    if not math.isclose(*losses, rel_tol=1e-5):
        raise ConfigError(
            f"option batching: found a {type(model.network).__name__} in which a packed example sees the one before it "
            f"(loss {losses[0]} and {losses[1]} behind two others), expected equal losses; use --batching buckets"
        )


@torch.no_grad()
def put_back(trained: Mapping[str, Tensor], whole: Mapping[str, Tensor], kept: Sequence[int]) -> None:
    """Write trained tensors into those of the model before its vocabulary was cut; tokens cut stay what they were."""
    for name, tensor in whole.items():
        if tensor.shape == trained[name].shape:
            tensor.copy_(trained[name])
        else:
            tensor[torch.tensor(kept)] = trained[name].to(tensor.device, tensor.dtype)
