"""A base in 4 bits, by bitsandbytes itself: what is quantised, that it is tuned as any other, and that it stays put."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import VOCABULARY, generate, logits_of, random_prompts, weights_of

from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import RECIPES, LoraConfig, OptimConfig, Precision, TuneConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.models.four_bit import nf4_options
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.loss import collate, completion_loss
from arc_kaggle.models.new_model import new_model
from arc_kaggle.models.vocabulary_cut import cut_vocabulary
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner

STEADY = OptimConfig(learning_rate=0.02, schedule="constant_with_warmup", warmup_fraction=0)
LORA = TuneConfig(steps=24, batch_size=2, optim=STEADY, lora=LoraConfig(8))
ENDS = replace(LORA, lora=LoraConfig(8, modules=("q_proj", "down_proj", "embed_tokens", "lm_head")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "model"
    save_model(new_model(64, 2, 0), path, "lora", {})
    return path


@pytest.fixture
def model(folder: Path) -> LoadedModel:
    return load_model(folder, "fp32", "cpu", four_bit=True)


def examples_of(model: LoadedModel, seed: int) -> Iterator[Example]:
    grids = [np.array([[1, 2], [i + seed, 3]], dtype=np.int8) for i in range(3)]
    task = Task("copy", tuple(Pair(grid, grid) for grid in grids), (Pair(grids[0], None),))
    rng = np.random.default_rng(seed)
    return tuning_examples(task, model.notation, LORA, rng)


def tune(tuner: InProcessTuner, seed: int = 0) -> Any:
    return tuner.tune(examples_of(tuner.model, seed), seed, Deadline.never())


@torch.no_grad()
def loss_of(model: LoadedModel, seed: int) -> float:
    """The loss of a task's first examples, in nats."""
    batch = list(islice(examples_of(model, seed), 32))
    return completion_loss(model, *collate(batch, model.pad_id, 64)).item()


def answers(model: LoadedModel) -> list[list[int]]:
    found = generate(HFEngine(model), random_prompts([5, 40, 70]), [6] * 3)
    return [completion.ids.tolist() for completion in found]


def test_linear_layers_are_in_four_bits_and_the_rest_is_not(model: LoadedModel, folder: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    kinds = {name: type(module) for name, module in model.network.named_modules()}
    quantised = [name for name, kind in kinds.items() if kind is Linear4bit]
    assert len(quantised) == 2 * 7
    assert all(".self_attn." in name or ".mlp." in name for name in quantised)
    assert {type(model.network.get_input_embeddings()), kinds["lm_head"]} == {torch.nn.Embedding, torch.nn.Linear}
    assert model.network.lm_head.weight.dtype == torch.float32
    layer = model.network.model.layers[0].mlp.up_proj.weight
    assert (layer.dtype, layer.quant_state.quant_type, layer.quant_state.nested) == (torch.uint8, "nf4", True)
    assert 2 * layer.numel() == load_model(folder).network.model.layers[0].mlp.up_proj.weight.numel()


def test_four_bits_answer_nearly_as_the_whole_base_does(model: LoadedModel, folder: Path) -> None:
    whole, found = logits_of(load_model(folder, "fp32", "cpu").network), logits_of(model.network)
    difference = (found - whole).abs().mean() / whole.abs().mean()
    assert 1e-4 < difference < 0.2


def test_routers_and_stacked_experts_stay_as_they_are(tmp_path: Path) -> None:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    shape = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    experts = {"num_experts": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}
    config = Qwen2MoeConfig(**shape, **experts, num_attention_heads=2, num_key_value_heads=2)
    save_model(replace(new_model(64, 1, 0), network=Qwen2MoeForCausalLM(config).eval()), tmp_path, "lora", {})
    network: Any = load_model(tmp_path, "fp32", "cpu", four_bit=True).network
    mlp = network.model.layers[0].mlp
    assert type(mlp.shared_expert_gate) is torch.nn.Linear
    assert {weight.dtype for each in (mlp.gate, mlp.experts) for weight in each.parameters()} == {torch.float32}
    assert mlp.shared_expert.gate_proj.weight.dtype == torch.uint8


EXPERTS = {"experts.0.up_proj", "block.experts.1.down_proj"}
ROUTERS = {"block.gate", "block.router.linear"}
OTHERS = {"block.gate_proj", "block.up_proj"}


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        (FOUR_BIT_SKIP, {"lm_head", *EXPERTS, *ROUTERS}),
        (("up_proj",), {"lm_head", *EXPERTS, *ROUTERS, "block.up_proj"}),
        ((), {"lm_head"}),
    ],
    ids=["default", "named", "none named"],
)
def test_experts_and_routers_that_are_linear_layers_stay_unless_no_name_is_given(
    skip: tuple[str, ...], left: set[str]
) -> None:
    """No architecture that is installed has such experts; where they are stacked, see the test above."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    network = torch.nn.Module()
    for path in {"lm_head", *EXPERTS, *ROUTERS, *OTHERS}:
        inner = network
        *above, name = path.split(".")
        for each in above:
            inner.add_module(each, getattr(inner, each, torch.nn.Module()))
            inner = getattr(inner, each)
        inner.add_module(name, torch.nn.Linear(8, 8))
    config = nf4_options(torch.float32, torch.device("cpu"), skip)["quantization_config"]
    replace_with_bnb_linear(network, config.llm_int8_skip_modules, config)
    assert {name for name, module in network.named_modules() if type(module) is torch.nn.Linear} == left


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", [LORA, ENDS], ids=["linears", "ends"])
def test_it_is_tuned_answers_and_comes_back(folder: Path, config: TuneConfig, precision: Precision) -> None:
    """The second task ends where it ends alone: neither training nor answers leave anything in the base."""
    used, fresh = (load_model(folder, precision, "cpu", four_bit=True) for _ in range(2))
    base, logits, first = weights_of(used.network), logits_of(used.network), answers(used)
    tuner, before = InProcessTuner(used, config), loss_of(used, 5)
    report = tune(tuner, seed=5)
    assert (report.text, report.steps) == ("tuned", 24)
    assert loss_of(used, 5) < 0.96 * before
    assert not torch.equal(logits_of(used.network), logits)
    answers(used)
    assert tune(tuner) == tune(InProcessTuner(fresh, config))
    assert torch.equal(logits_of(used.network), logits_of(fresh.network))
    tuner.reset()
    now = {name.replace(".base_layer", ""): value for name, value in weights_of(used.network).items()}
    assert {name: now[name] for name in base} == base
    assert torch.equal(logits_of(used.network), logits)
    assert answers(used) == first


def test_gradients_pass_a_layer_that_has_answered(model: LoadedModel) -> None:
    layer: Any = model.network.model.layers[0].mlp.up_proj
    with torch.inference_mode():
        layer(torch.ones(1, 64))
    seen = torch.ones(1, 64, requires_grad=True)
    layer(seen).sum().backward()
    assert seen.grad is not None
    assert seen.grad.abs().sum() > 0


def test_an_adapter_leaves_a_base_in_four_bits(model: LoadedModel) -> None:
    base = weights_of(model.network)
    LoraAdapter(model, LoraConfig(4)).detach()
    assert weights_of(model.network) == base


def test_tuning_goes_on_from_a_pretrained_adapter_and_comes_back_to_it(folder: Path, tmp_path: Path) -> None:
    """Trained on the whole base and put on one in 4 bits: it changes the answers as it does on the whole one."""
    whole = load_model(folder, "fp32", "cpu")
    base = logits_of(whole.network)
    pretrained = LoraAdapter(whole, LoraConfig(4))
    torch.manual_seed(0)
    for factor in pretrained.parameters:
        factor.data.normal_(std=0.2)
    pretrained.save(tmp_path / "mine")
    changed = logits_of(whole.network)
    config = SolveConfig("unread", Path("unwritten"), model=folder, device="cpu", precision="fp32", four_bit=True)
    method: Any = load_method(replace(config, recipe="lora", adapter=tmp_path / "mine", tune=LORA))
    method.tuner.reset()
    on_four_bits = logits_of(method.engine.model.network)
    assert (on_four_bits - changed).abs().mean() < 0.2 * (changed - base).abs().mean()
    assert tune(method.tuner).text == "tuned"
    assert (logits_of(method.engine.model.network) - on_four_bits).abs().max() > 1e-3
    method.tuner.reset()
    assert torch.equal(logits_of(method.engine.model.network), on_four_bits)


def test_the_vocabulary_is_cut_in_four_bits_too(model: LoadedModel) -> None:
    cut = cut_vocabulary(model)
    assert answers(cut)
    assert tune(InProcessTuner(cut, LORA)).text == "tuned"


def test_solve_loads_four_bits_where_it_is_told_to(folder: Path) -> None:
    config = SolveConfig("unread", Path("unwritten"), model=folder, device="cpu", recipe="lora")
    for four_bit, dtype in ((True, torch.uint8), (False, torch.float32)):
        method: Any = load_method(replace(config, four_bit=four_bit))
        assert method.engine.model.network.model.layers[0].mlp.up_proj.weight.dtype == dtype


@pytest.mark.parametrize("options", [{"recipe": "box"}, {"tune": TuneConfig(weights="all")}])
def test_all_weights_cannot_be_trained_in_four_bits(options: Any) -> None:
    with pytest.raises(ConfigError, match=r"^option four_bit: found tune.weights 'all', expected lora or none"):
        SolveConfig("unread", Path("unwritten"), four_bit=True, **options)
    assert SolveConfig("unread", Path("unwritten"), four_bit=True, tune=RECIPES["poe"]).four_bit


def test_named_modules_stay_as_they_are_with_all_below_them(folder: Path) -> None:
    model = load_model(folder, "fp32", "cpu", four_bit=True, four_bit_skip=("down_proj", "self_attn"))
    layer = model.network.get_decoder().layers[0]
    assert layer.mlp.down_proj.weight.dtype == layer.self_attn.q_proj.weight.dtype == torch.float32
    assert layer.mlp.up_proj.weight.dtype == torch.uint8


def test_without_the_package_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"^option four_bit: found no package bitsandbytes, .*arc_kaggle\[four-bit\]"):
        load_model(folder, "fp32", "cpu", four_bit=True)


def test_a_head_by_another_name_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc_kaggle.models.four_bit.HEADS", ("nothing",))
    with pytest.raises(ModelError, match="found the head of LlamaForCausalLM in 4 bits, expected it left alone"):
        load_model(folder, "fp32", "cpu", four_bit=True)
