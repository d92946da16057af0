"""LoRA's laws: the base is never touched, a reset adapter is no adapter, a saved one is the same elsewhere."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import VOCABULARY, digest, lively_model, logits_of, weights_of

import arc_kaggle
from arc_kaggle.config.tune import EVERYWHERE, RECIPES, LoraConfig, OptimConfig
from arc_kaggle.engines.vllm.adapters import check_for_vllm
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.tuning.optimizer import Optimizer
from arc_kaggle.tuning.tunable_weights import AllWeights, LoraAdapter, TunableWeights

BOX = Path(arc_kaggle.__file__).parent / "box"
KINDS = ["llama", "qwen2", "grid"]  # tied and untied
ATTACH = pytest.mark.parametrize(
    "attach",
    [AllWeights, lambda model: LoraAdapter(model, LoraConfig()), lambda model: LoraAdapter(model, ENDS)],
    ids=["all", "lora", "ends"],
)
ENDS = LoraConfig(rank=4, modules=EVERYWHERE)


def adapter_of(weights: TunableWeights) -> list[str]:
    with weights.training() as parameters:
        return [digest(parameter) for parameter in parameters]


def train(model: LoadedModel, weights: TunableWeights, steps: int = 3) -> None:
    """A few steps at a high rate on random tokens."""
    config = OptimConfig(learning_rate=0.01, schedule="constant_with_warmup", warmup_fraction=0)
    ids = torch.randint(VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(0))
    with weights.training() as parameters:
        optimizer = Optimizer(model, parameters, config, steps)
        for _ in range(steps):
            optimizer.step(ids, ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "config",
    [LoraConfig(), LoraConfig(rank=4, rslora=False, modules=("q_proj", "mlp.up_proj")), LoraConfig(modules=EVERYWHERE)],
    ids=["all", "some", "ends"],
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


@ATTACH
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
@ATTACH
def test_a_reset_is_quick(make: Callable[[], LoadedModel], attach: Callable[[LoadedModel], TunableWeights]) -> None:
    weights = attach(make())
    seconds = []
    for seed in range(3):
        started = time.perf_counter()
        weights.reset(seed)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2


@pytest.mark.parametrize("config", [LoraConfig(rank=4), ENDS], ids=["linears", "ends"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_is_the_same_on_a_fresh_base(kind: str, config: LoraConfig, tmp_path: Path) -> None:
    import peft
    from safetensors import safe_open

    model, fresh = lively_model(0, kind), lively_model(0, kind)
    if kind != "llama":
        fresh.network.load_state_dict(model.network.state_dict())
    base = logits_of(fresh.network)
    adapter = LoraAdapter(model, config)
    train(model, adapter)
    adapter.save(tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as saved:
        assert {len(saved.get_tensor(name).shape) for name in saved.keys()} == {2}  # noqa: SIM118
        assert sum(saved.get_tensor(name).numel() for name in saved.keys()) == sum(  # noqa: SIM118
            parameter.numel() for parameter in adapter.parameters
        )
    check_for_vllm(tmp_path, max_rank=8)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["arc24", "poe", "nvarc"])
def test_recipes_adapt_what_they_say(name: str, kind: str) -> None:
    model, lora = lively_model(0, kind), RECIPES[name].lora
    adapter = LoraAdapter(model, lora)
    adapted = [path for path, module in model.network.named_modules() if hasattr(module, "lora_A")]
    assert {path.rpartition(".")[2] for path in adapted} == set(lora.modules)
    assert {layer.scaling["default"] for layer in adapter.layers} == {lora.alpha / lora.rank**0.5}
    assert not any(layer.use_dora["default"] for layer in adapter.layers)
    if "lm_head" in lora.modules:
        assert len(adapted) == 2 * 7 + 2


def test_a_weight_that_both_ends_share_is_one_under_two_adapters() -> None:
    model = lively_model(0)
    LoraAdapter(model, ENDS)
    embeddings, head = model.network.get_input_embeddings(), model.network.get_output_embeddings()
    assert head.base_layer.weight is embeddings.base_layer.weight
    assert not head.base_layer.weight.requires_grad
    assert head.lora_A["default"].weight.shape == embeddings.lora_embedding_B["default"].T.shape == (4, 64)


def peft_adapter(folder: Path, full_copies: bool = False, **options: Any) -> None:
    """An adapter as others save theirs."""
    import peft

    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options})
    peft.get_peft_model(lively_model(0, "qwen2").network, config).save_pretrained(
        folder, save_embedding_layers=full_copies
    )


UNFIT = {
    "rank": ({"r": 64}, "found rank 64, expected 16 or less: raise max_lora_rank to 64"),
    "pattern": ({"rank_pattern": {"q_proj": 100}}, "found rank 100, expected 16 or less: raise max_lora_rank to 128"),
    "no such rank": ({"r": 600}, "found rank 600, expected 16 or less: train with rank 512 or less"),
    "dora": ({"use_dora": True}, "found DoRA, expected plain LoRA: train again without it"),
    "copies": ({"modules_to_save": ["lm_head"]}, "found modules_to_save ['lm_head'], expected none: train again"),
    "pissa": ({"init_lora_weights": "pissa"}, "found init_lora_weights 'pissa', which changes the base"),
    "full": (
        {"target_modules": ["embed_tokens"], "full_copies": True},
        "found full weights ['base_model.model.model.embed_tokens.base_layer.weight'], expected LoRA factors alone",
    ),
}


@pytest.mark.parametrize(("options", "said"), UNFIT.values(), ids=UNFIT.keys())
def test_an_adapter_that_vllm_cannot_load_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    peft_adapter(tmp_path, **options)
    with pytest.raises(ModelError) as caught:
        check_for_vllm(tmp_path, max_rank=16)
    assert str(caught.value).startswith(f"adapter {tmp_path}: vLLM cannot load it: {said}")


def test_all_that_is_against_an_adapter_is_named_at_once(tmp_path: Path) -> None:
    peft_adapter(tmp_path, r=64, use_dora=True)
    with pytest.raises(ModelError, match=r"found rank 64, .*; found DoRA, "):
        check_for_vllm(tmp_path, max_rank=16)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"FileNotFoundError: .*, expected an adapter of peft"):
        check_for_vllm(tmp_path, max_rank=16)
