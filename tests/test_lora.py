"""LoRA's laws: the base is never touched, a reset adapter is no adapter, a saved one is the same elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import VOCABULARY, digest, lively_model, logits_of, weights_of

import arc_kaggle
from arc_kaggle.errors import ConfigError
from arc_kaggle.lora import AllWeights, LoraAdapter, TunableWeights
from arc_kaggle.model import LoadedModel, load_model
from arc_kaggle.optim import Optimizer
from arc_kaggle.recipe import LoraConfig, OptimConfig

BOX = Path(arc_kaggle.__file__).parent / "box"
KINDS = ["llama", "qwen2"]


def adapter_of(weights: TunableWeights) -> list[str]:
    return [digest(parameter) for parameter in weights.parameters]


def train(model: LoadedModel, weights: TunableWeights, steps: int = 3) -> None:
    """A few steps at a high rate on random tokens."""
    config = OptimConfig(learning_rate=0.01, schedule="constant_with_warmup", warmup_fraction=0)
    optimizer = Optimizer(model, weights.parameters, config, steps)
    ids = torch.randint(VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        optimizer.step(ids, ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "config", [LoraConfig(), LoraConfig(rank=4, rslora=False, modules=("q_proj", "mlp.up_proj"))], ids=["all", "some"]
)
def test_the_base_is_bit_for_bit_what_it_was(kind: str, config: LoraConfig) -> None:
    model = lively_model(0, kind)
    weights, logits = weights_of(model.network), logits_of(model.network)
    adapter = LoraAdapter(model, config)
    for seed in range(3):
        adapter.reset(seed)
        assert torch.equal(logits_of(model.network), logits)
        train(model, adapter)
        assert not torch.equal(logits_of(model.network), logits)
    frozen = {name.replace(".base_layer", ""): tensor for name, tensor in weights_of(model.network).items()}
    assert {name: frozen[name] for name in weights} == weights
    adapter.reset(9)
    assert torch.equal(logits_of(model.network), logits)
    adapter.detach()
    assert weights_of(model.network) == weights
    assert torch.equal(logits_of(model.network), logits)


def test_only_the_adapter_is_trained() -> None:
    model = lively_model(0)
    n_weights = sum(parameter.numel() for parameter in model.network.parameters())
    adapter = LoraAdapter(model, LoraConfig(rank=2, modules=("q_proj",)))
    assert sum(parameter.numel() for parameter in adapter.parameters) == 2 * 2 * (64 + 64)
    adapter.detach()
    assert sum(p.numel() for p in model.network.parameters() if p.requires_grad) == n_weights


def test_a_seed_draws_the_adapter() -> None:
    adapter = LoraAdapter(lively_model(0), LoraConfig())
    other = LoraAdapter(lively_model(0), LoraConfig())
    drawn = []
    for seed in (1, 2, 1):
        adapter.reset(seed)
        drawn.append(adapter_of(adapter))
    other.reset(1)
    assert drawn[0] == drawn[2] == adapter_of(other)
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("attach", [AllWeights, lambda model: LoraAdapter(model, LoraConfig())], ids=["all", "lora"])
def test_a_reset_leaves_nothing_behind(attach: Callable[[LoadedModel], TunableWeights]) -> None:
    """Training after a reset ends where it ends on a model that was never trained before."""
    used, fresh = lively_model(0), lively_model(0)
    for model, seeds in ((used, (5, 7)), (fresh, (7,))):
        weights = attach(model)
        for seed in seeds:
            weights.reset(seed)
            train(model, weights)
    assert torch.equal(logits_of(used.network), logits_of(fresh.network))


def test_a_reset_leaves_the_global_generator_alone() -> None:
    adapter = LoraAdapter(lively_model(0), LoraConfig())
    state = torch.get_rng_state()
    adapter.reset(1)
    assert torch.equal(torch.get_rng_state(), state)


def box_model() -> LoadedModel:
    return load_model(BOX, "fp32", "cpu")


@pytest.mark.parametrize("make", [lambda: lively_model(0), box_model], ids=["tiny", "box"])
@pytest.mark.parametrize("attach", [AllWeights, lambda model: LoraAdapter(model, LoraConfig())], ids=["all", "lora"])
def test_a_reset_is_quick(make: Callable[[], LoadedModel], attach: Callable[[LoadedModel], TunableWeights]) -> None:
    weights = attach(make())
    seconds = []
    for seed in range(3):
        started = time.perf_counter()
        weights.reset(seed)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_is_the_same_on_a_fresh_base(kind: str, tmp_path: Path) -> None:
    import peft

    model, fresh = lively_model(0, kind), lively_model(0, kind)
    if kind != "llama":
        fresh.network.load_state_dict(model.network.state_dict())
    base = logits_of(fresh.network)
    adapter = LoraAdapter(model, LoraConfig(rank=4))
    train(model, adapter)
    adapter.save(tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    loaded: Any = peft.PeftModel.from_pretrained(fresh.network, tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(model.network))
    assert not torch.equal(logits_of(loaded), base)


@pytest.mark.parametrize("modules", [("nope",), ("q_proj", "nope"), ("all-linear", "q_proj"), ("roj",)])
def test_unknown_modules_are_refused(modules: tuple[str, ...]) -> None:
    model = lively_model(0)
    before = weights_of(model.network)
    with pytest.raises(ConfigError, match=r"^LoRA modules: found no '.+' in the model, expected all-linear or some of"):
        LoraAdapter(model, LoraConfig(modules=modules))
    assert weights_of(model.network) == before
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_modules_that_cannot_be_adapted_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^LoRA modules \('input_layernorm',\): .* is not supported"):
        LoraAdapter(lively_model(0), LoraConfig(modules=("input_layernorm",)))


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
def test_all_weights_are_reset_bit_for_bit(kind: str) -> None:
    model = lively_model(0, kind)
    before, logits = weights_of(model.network), logits_of(model.network)
    weights = AllWeights(model)
    for seed in range(2):
        train(replace(model, network=model.network.eval()), weights)
        assert all(tensor != before[name] for name, tensor in weights_of(model.network).items() if "weight" in name)
        weights.reset(seed)
        assert weights_of(model.network) == before
        assert torch.equal(logits_of(model.network), logits)
