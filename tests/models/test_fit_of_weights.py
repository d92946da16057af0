"""Weights and adapters that do not fit are refused by name before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import lively_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from arc_kaggle.commands.merge import MergeConfig, merge
from arc_kaggle.config.model import ModelOptions
from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.errors import ModelError
from arc_kaggle.models.grid_network import GridNetwork
from arc_kaggle.models.loading import load_asked, load_model, save_model
from arc_kaggle.models.new_model import new_grid_model
from arc_kaggle.tuning.tunable_weights import LoraAdapter

Tensors = dict[str, Tensor]
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(lively_model(0), tmp_path / "base", "lora", {})
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    tuned = LoraAdapter(load_model(base, "fp32", "cpu"), LoraConfig(rank=4))
    tuned.reset(0)
    tuned.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def change(file: Path, change_all: Callable[[Tensors], Tensors]) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in change_all(load_file(file)).items()}, file, {"format": "pt"}
    )


def renamed(tensors: Tensors) -> Tensors:
    return {name.replace("layers.0.self_attn.q_proj", "layers.0.self_attn.query"): t for name, t in tensors.items()}


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def with_another(tensors: Tensors) -> Tensors:
    return tensors | {"model.layers.7.self_attn.q_proj.weight": torch.zeros(2, 2)}


def of_another_shape(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t[:-1] if part in name else t for name, t in tensors.items()}


MISFITS = [
    (
        renamed,
        r"missing model\.layers\.0\.self_attn\.q_proj\.weight; unexpected .*layers\.0\.self_attn\.query",
    ),
    (without(Q_PROJ), r"missing model\.layers\.0\.self_attn\.q_proj\.weight"),
    (with_another, r"unexpected model\.layers\.7\.self_attn\.q_proj\.weight"),
    (of_another_shape(Q_PROJ), r"of another shape model\.layers\.0\.self_attn\.q_proj\.weight"),
]
KINDS_OF_MISFITS = ["renamed", "missing", "unexpected", "of another shape"]


@pytest.mark.parametrize(("change_all", "message"), MISFITS, ids=KINDS_OF_MISFITS)
def test_weights_that_do_not_fit_their_config_are_refused(
    base: Path, change_all: Callable[[Tensors], Tensors], message: str
) -> None:
    load_model(base, "fp32", "cpu")
    change(base / "model.safetensors", change_all)
    with pytest.raises(ModelError, match=message):
        load_model(base, "fp32", "cpu")


@pytest.mark.parametrize(("change_all", "message"), MISFITS, ids=KINDS_OF_MISFITS)
def test_so_are_those_that_are_read_without_transformers(
    tmp_path: Path, change_all: Callable[[Tensors], Tensors], message: str
) -> None:
    save_model(new_grid_model(64, 1, 0), tmp_path, "box", {})
    asked = ModelOptions(model=tmp_path)
    assert isinstance(load_asked(asked).network, GridNetwork)
    change(tmp_path / "model.safetensors", change_all)
    with pytest.raises(ModelError, match=message):
        load_asked(asked)


def test_a_config_that_lacks_a_size_is_named(tmp_path: Path) -> None:
    save_model(new_grid_model(64, 1, 0), tmp_path, "box", {})
    asked = ModelOptions(model=tmp_path)
    sizes = json.loads((tmp_path / "config.json").read_text())
    del sizes["norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    with pytest.raises(ModelError, match="'norm_eps'"):
        load_asked(asked)


def test_absent_weights_are_named(base: Path) -> None:
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"found no weights, expected \*\.safetensors"):
        load_model(base, "fp32", "cpu")


def test_an_adapter_beside_full_weights_is_refused(base: Path, adapter: Path) -> None:
    """transformers would apply it without a word."""
    for path in adapter.glob("adapter_*"):
        shutil.copy(path, base)
    with pytest.raises(ModelError, match=r"found adapter_config\.json beside full weights"):
        load_model(base, "fp32", "cpu")


def test_an_adapter_is_no_model_and_names_its_base(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}))
    with pytest.raises(ModelError, match=r"found a LoRA adapter of the base 'Qwen/Qwen2\.5-0\.5B', expected a whole"):
        load_model(adapter, "fp32", "cpu")


FACTOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def with_another_factor(tensors: Tensors) -> Tensors:
    return tensors | {FACTOR.replace("layers.0", "layers.7"): tensors[FACTOR].clone()}


def not_finite(tensors: Tensors) -> Tensors:
    return tensors | {FACTOR: torch.full_like(tensors[FACTOR], float("nan"))}


@pytest.mark.parametrize(
    ("change_all", "message"),
    [
        (renamed, r"lacks 2, such as .*q_proj\.lora_A.*, and has 2 others, such as .*self_attn\.query\.lora_A"),
        (
            without("layers.0.self_attn.q_proj.lora_B"),
            r"lacks 1, such as .*layers\.0\.self_attn\.q_proj\.lora_B\.weight",
        ),
        (with_another_factor, r"has 1 others, such as .*layers\.7"),
        (of_another_shape("layers.0.self_attn.q_proj.lora_B"), r"found shape \(63, 4\) of .*q_proj\.lora_B"),
        (not_finite, r"found numbers in .*layers\.0\.self_attn\.q_proj\.lora_B\.weight that are not finite"),
    ],
    ids=["renamed", "missing", "unexpected", "of another shape", "not finite"],
)
def test_an_adapter_that_does_not_fit_its_base_is_refused(
    base: Path, adapter: Path, tmp_path: Path, change_all: Callable[[Tensors], Tensors], message: str
) -> None:
    merge(MergeConfig(base, adapter, tmp_path / "merged"))
    change(adapter / "adapter_model.safetensors", change_all)
    with pytest.raises(ModelError, match=message):
        merge(MergeConfig(base, adapter, tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_an_adapter_without_weights_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter .* expected adapter_model\.safetensors"):
        merge(MergeConfig(base, adapter, tmp_path / "merged"))


def test_factors_on_embeddings_and_head_fit(base: Path, tmp_path: Path) -> None:
    tuned = LoraAdapter(load_model(base, "fp32", "cpu"), LoraConfig(4, modules=("embed_tokens", "lm_head", "q_proj")))
    tuned.reset(0)
    tuned.save(tmp_path / "adapter")
    merge(MergeConfig(base, tmp_path / "adapter", tmp_path / "merged"))
    load_model(tmp_path / "merged", "fp32", "cpu")
