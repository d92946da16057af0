"""GridLM as a model type: saved and loaded by transformers alone, causal, and told its places beside a cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import VOCABULARY, alone, digest, generate_slowly, lively_model, logits_of, weights_of
from torch import Tensor

from arc_kaggle.config.model import ModelOptions, has_grid_positions
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import EngineError
from arc_kaggle.models.grid_lm import GridLM
from arc_kaggle.models.grid_network import GridNetwork, frequencies, turn, turns_of
from arc_kaggle.models.grid_places import places_of
from arc_kaggle.models.loading import LoadedModel, load_asked, load_model, load_tokenizer, save_model
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.text.tokenizer_file import FileTokenizer
from arc_kaggle.tuning.tuner import fast_on_a_cpu

MODEL = lively_model(0, "grid")
IDS = torch.from_numpy(np.random.default_rng(0).integers(VOCABULARY, size=(3, 40)))


def logits(**options: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = MODEL.network(input_ids=IDS, **options).logits
    return found


def test_a_folder_is_loaded_by_its_type_without_code_of_its_own(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path, "box", {})
    again = load_model(tmp_path, "fp32")
    assert isinstance(again.network, GridLM)
    assert not [*tmp_path.glob("*.py")]
    assert torch.allclose(logits_of(again.network), logits_of(MODEL.network), atol=0.3)  # it is saved in bf16
    save_model(again, tmp_path / "twice", "box", {})
    assert digest(logits_of(load_model(tmp_path / "twice", "fp32").network)) == digest(logits_of(again.network))


def gradients(model: LoadedModel, autocast: torch.dtype | None, checkpointing: bool) -> list[Tensor]:
    """Of the loss of two rows, in the second of which there are two examples, beside each other."""
    network: Any = model.network.train()
    if checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    depths = torch.arange(40).repeat(3, 1)
    depths[1] -= 25 * (depths[1] >= 25)
    for positions in (depths, None):
        with fast_on_a_cpu(network):
            summed_loss(replace(model, autocast=autocast), IDS, IDS, positions)[0].backward()  # type: ignore[no-untyped-call]
    network.gradient_checkpointing_disable()
    found = [parameter.grad for parameter in network.parameters()]
    network.eval().zero_grad()
    return found


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_without_transformers_it_is_the_same_network(autocast: torch.dtype | None, checkpointing: bool) -> None:
    single = alone(MODEL)
    assert torch.equal(logits_of(single.network), logits_of(MODEL.network))
    expected, found = (gradients(model, autocast, checkpointing) for model in (MODEL, single))
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if autocast is None else 1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_checkpointing_a_layer_is_run_again_for_its_gradients(checkpointing: bool) -> None:
    single, runs = alone(MODEL), []
    single.network.model.layers[0].self_attn.register_forward_hook(lambda *_: runs.append(1))  # type: ignore[union-attr]
    gradients(single, None, checkpointing)
    assert len(runs) == (4 if checkpointing else 2)  # of two batches


def test_to_answer_and_to_tune_all_weights_it_is_loaded_without_transformers(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path, "box", {})
    plain = load_model(tmp_path, "fp32")
    for recipe, kind in (("box", GridNetwork), ("none", GridNetwork), ("lora", GridLM)):
        loaded = load_asked(ModelOptions(model=tmp_path, recipe=recipe, precision="fp32"))
        assert isinstance(loaded.network, kind)
        assert weights_of(loaded.network) == weights_of(plain.network)
        assert (loaded.end_id, loaded.pad_id, loaded.autocast) == (plain.end_id, plain.pad_id, None)
        assert loaded.notation.token_limit == plain.notation.token_limit
        text = loaded.notation.completion(np.array([[1, 2], [3, 0]], dtype=np.int8))
        assert loaded.notation.ids(text) == plain.notation.ids(text)
        assert loaded.notation.tokenizer.decode(loaded.notation.ids(text)) == text


def test_angles_are_fp32_whatever_products_are_computed_in() -> None:
    places = places_of(IDS, MODEL.network.config.positions)
    with torch.autocast("cpu", torch.bfloat16):
        found = turns_of(places, 32)
    assert found.dtype is torch.complex64 and torch.equal(found, turns_of(places, 32))


def test_without_transformers_it_is_saved_as_with_them(tmp_path: Path) -> None:
    """And what is saved of it again replaces all that was there, in as many files as it takes."""
    first, again = tmp_path / "first", tmp_path / "again"
    save_model(MODEL, first, "box", {})
    loaded = load_model(first, "fp32", alone=True)
    assert isinstance(loaded.network, GridNetwork)
    save_model(loaded, again, "box", {})
    for file in again.iterdir():
        if file.name != "config.json":
            assert file.read_bytes() == (first / file.name).read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (first, again)]
    assert configs[0] == configs[1]
    assert load_tokenizer(again).get_vocab() == load_tokenizer(first).get_vocab()

    loaded.network.save_pretrained(again, loaded.network.state_dict(), "100KB")
    assert not (again / "model.safetensors").exists() and len([*again.glob("model-*.safetensors")]) > 2
    for folder in (first, again):
        assert weights_of(load_model(folder, "fp32").network) == weights_of(loaded.network)
        assert weights_of(load_model(folder, "fp32", alone=True).network) == weights_of(loaded.network)


def test_a_tokenizer_is_saved_where_it_lies_too(tmp_path: Path) -> None:
    save_model(MODEL, tmp_path, "box", {})
    before = (tmp_path / "tokenizer.json").read_bytes()
    FileTokenizer(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_masks_that_only_transformers_reads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"attention_mask: found 2 dimensions, expected \(batch, 1, time, slots\)"):
        alone(MODEL).network(input_ids=IDS, attention_mask=torch.ones_like(IDS))


def test_a_new_model_follows_its_seed() -> None:
    first, same, other = (digest(logits_of(new_grid_model(64, 2, seed).network)) for seed in (3, 3, 4))
    assert first == same != other


def test_places_that_are_given_are_those_that_follow_from_the_tokens() -> None:
    assert torch.equal(logits(position_ids=places_of(IDS, MODEL.network.config.positions)), logits())


def test_another_place_is_another_answer() -> None:
    places = places_of(IDS, MODEL.network.config.positions)
    for part in range(3):
        moved = places.clone()
        moved[:, 20, part] += 2
        changed = (logits(position_ids=moved) != logits()).any(dim=(0, 2))
        assert changed.nonzero().min() == 20, part  # and nothing before it


def test_attention_written_out_is_that_of_torchs_kernel() -> None:
    plain = logits()
    MODEL.network.set_attn_implementation("eager")
    try:
        assert torch.allclose(logits(), plain, atol=1e-4)
    finally:
        MODEL.network.set_attn_implementation("sdpa")


def test_without_places_a_cache_is_refused() -> None:
    from transformers import DynamicCache

    with pytest.raises(ValueError, match="found no places, expected places"):
        MODEL.network(input_ids=IDS, past_key_values=DynamicCache())


def test_it_generates_as_any_model_of_transformers_does() -> None:
    ids = IDS[:1, :20]
    found = MODEL.network.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    expected = generate_slowly(MODEL, ids[0].numpy(), 12)
    assert found[0, 20:].tolist() == expected.ids.tolist()


def test_it_generates_the_same_behind_padding_on_the_left() -> None:
    ids, mask = torch.zeros(2, 20, dtype=torch.long), torch.zeros(2, 20, dtype=torch.long)
    for row, first in enumerate((0, 7)):
        ids[row, first:], mask[row, first:] = IDS[row, : 20 - first], 1
    found = MODEL.network.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0)
    expected = [generate_slowly(MODEL, IDS[row, : 20 - first].numpy(), 12).ids for row, first in enumerate((0, 7))]
    for new, own in zip(found[:, 20:].tolist(), expected, strict=True):
        assert new[: len(own)] == own.tolist()


def test_rotary_positions_tell_distances_in_each_part() -> None:
    """The product of a turned query and key depends on the difference of their places alone."""
    query, key = torch.randn(2, 1, 1, 1, 32, dtype=torch.float64).unbind()
    for part, step in ((0, 2), (1, 1), (2, 1)):  # two grids are a pair
        places = torch.zeros(2, 6, 3, dtype=torch.long)
        places[0, :, part], places[1, :, part] = torch.arange(6) * step, (torch.arange(6) + 3) * step
        turns = turns_of(places, 32)
        products = (turn(query, turns[:1]) * turn(key, turns[1:])).sum(dim=-1).flatten()
        assert torch.allclose(products, products[:1].expand(6), atol=1e-5)
    assert frequencies(32, torch.device("cpu")).count_nonzero(dim=1).tolist() == [4, 6, 6]


@pytest.mark.parametrize("options", [{"engine": "vllm", "recipe": "lora"}, {"tuner": "unsloth", "recipe": "lora"}])
def test_vllm_and_unsloth_refuse_it_by_name(tmp_path: Path, options: dict[str, str]) -> None:
    save_model(MODEL, tmp_path / "grid", "box", {})
    save_model(new_model(64, 1, 0), tmp_path / "llama", "box", {})
    assert [has_grid_positions(tmp_path / name) for name in ("grid", "llama", "none")] == [True, False, False]
    with pytest.raises(EngineError, match=r"lacks grid positions; choose --\w+ (hf or fake|peft)"):
        SolveConfig("arc1:training", tmp_path, model=tmp_path / "grid", **options)  # type: ignore[arg-type]
    SolveConfig("arc1:training", tmp_path, model=tmp_path / "llama", **options)  # type: ignore[arg-type]
