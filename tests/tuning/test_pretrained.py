"""A pretrained adapter: tuning goes on from it, a reset comes back to it, and it merges to the same logits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import digest, lively_model, logits_of, weights_of
from safetensors.torch import load_file, save_file

from arc_kaggle.cli import main
from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.tune import EVERYWHERE, LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.errors import ModelError
from arc_kaggle.models.loading import LoadedModel, save_model
from arc_kaggle.models.vocabulary_cut import CutTokenizer, shrink
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.pretrained import KEPT_FILE
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner

ENDS = LoraConfig(rank=6, alpha=5, rslora=False, modules=EVERYWHERE)
MIDDLE = LoraConfig(rank=4, modules=("q_proj", "down_proj"))
KEPT = (0, 1, 2, 5, 6, 9, 11, 14, 15)
KINDS = pytest.mark.parametrize("kind", ["llama", "qwen2"])  # tied and untied
CONFIGS = pytest.mark.parametrize("config", [ENDS, MIDDLE], ids=["ends", "middle"])
STEADY = OptimConfig(learning_rate=0.01, schedule="constant_with_warmup", warmup_fraction=0)


def base(kind: str = "llama") -> LoadedModel:
    torch.manual_seed(0)
    return lively_model(0, kind)


def pretrain(folder: Path, model: LoadedModel, config: LoraConfig) -> LoadedModel:
    """Write an adapter with random factors; the model, which has it on."""
    adapter = LoraAdapter(model, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for factor in adapter.parameters:
            factor.copy_(torch.randn(factor.shape, generator=generator) * 0.1)
    adapter.save(folder)
    return model


def cut(model: LoadedModel, kept: tuple[int, ...] = KEPT) -> LoadedModel:
    shrink(model.network, kept)
    return replace(model, notation=replace(model.notation, tokenizer=CutTokenizer(model.tokenizer, kept)))


@torch.inference_mode()
def logits_at(model: LoadedModel, ids: list[int]) -> torch.Tensor:
    found: torch.Tensor = model.network(input_ids=torch.tensor([ids]), use_cache=False).logits
    return found[0]


def examples() -> Any:
    ids = torch.randint(16, (40,), generator=torch.Generator().manual_seed(0)).numpy()
    while True:
        yield Example(ids, ids)


@KINDS
@CONFIGS
def test_tuning_goes_on_from_it_and_a_reset_comes_back_to_it(kind: str, config: LoraConfig, tmp_path: Path) -> None:
    """Its first loss is that of the pretrained model, and neither base nor folder is changed."""
    expected, before = logits_of(pretrain(tmp_path / "it", base(kind), config).network), digests(tmp_path)
    model = base(kind)
    weights = weights_of(model.network)
    tuner = InProcessTuner(model, TuneConfig(steps=3, optim=STEADY), tmp_path / "it")
    assert torch.equal(logits_of(model.network), expected)
    (first,) = {tuner.tune(examples(), seed, Deadline.never()).first_loss for seed in (1, 2)}
    fresh = InProcessTuner(base(kind), TuneConfig(steps=3, optim=STEADY)).tune(examples(), 1, Deadline.never())
    assert first != fresh.first_loss
    assert not torch.allclose(logits_of(model.network), expected, atol=0.01)
    tuner.reset()
    assert torch.equal(logits_of(model.network), expected)
    frozen = {name.replace(".base_layer", ""): value for name, value in weights_of(model.network).items()}
    assert {name: frozen[name] for name in weights} == weights
    assert digests(tmp_path) == before


def digests(folder: Path) -> dict[str, int]:
    return {str(path): hash(path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rank_scale_and_modules_come_with_it(tmp_path: Path) -> None:
    pretrain(tmp_path / "it", base(), ENDS)
    assert lora_of(tmp_path / "it") == replace(ENDS, modules=tuple(sorted(EVERYWHERE)))
    tuner = InProcessTuner(base(), TuneConfig(steps=1, lora=LoraConfig(rank=2, modules=("q_proj",))), tmp_path / "it")
    tuner.save(tmp_path / "task")
    assert lora_of(tmp_path / "task") == lora_of(tmp_path / "it")
    saved, start = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("task", "it"))
    assert {name: digest(factor) for name, factor in saved.items()} == {n: digest(f) for n, f in start.items()}


def test_what_was_tuned_on_one_adapter_is_not_taken_for_another(tmp_path: Path) -> None:
    pretrain(tmp_path / "it", base(), MIDDLE)
    config = TuneConfig(steps=1, lora=MIDDLE)
    tuner = InProcessTuner(base(), config, tmp_path / "it")
    tuner.save(tmp_path / "task")
    tuner.load(tmp_path / "task")
    with pytest.raises(ModelError, match=r"adapter: found '[0-9a-f]{16}', expected None"):
        InProcessTuner(base(), config).load(tmp_path / "task")


def test_all_weights_begin_with_it_merged(tmp_path: Path) -> None:
    expected, model = logits_of(pretrain(tmp_path / "it", base(), ENDS).network), base()
    tuner = InProcessTuner(model, TuneConfig(weights="all", steps=2, optim=STEADY), tmp_path / "it")
    torch.testing.assert_close(logits_of(model.network), expected, rtol=1e-4, atol=1e-3)
    started = logits_of(model.network)
    assert tuner.tune(examples(), 1, Deadline.never()).text == "tuned"
    assert not torch.allclose(logits_of(model.network), started, atol=0.01)
    tuner.reset()
    assert torch.equal(logits_of(model.network), started)


@KINDS
@CONFIGS
def test_a_merged_folder_is_the_adapted_model(kind: str, config: LoraConfig, tmp_path: Path) -> None:
    """Embeddings and head stay tied where the adapter changes neither."""
    save_in_fp32(base(kind), tmp_path / "base")
    expected = logits_of(pretrain(tmp_path / "it", base(kind), config).network)
    before = digests(tmp_path)
    assert main(["merge", str(tmp_path / "base"), str(tmp_path / "it"), "--out", str(tmp_path / "merged")]) == 0
    merged = load_network(tmp_path / "merged", torch.float32)
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(logits_of(base(kind).network), expected, atol=0.1)
    assert merged.config.tie_word_embeddings is (kind == "llama" and config is MIDDLE)
    for name in ("tokenizer.json", "arc_kaggle.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert {path: found for path, found in digests(tmp_path).items() if path in before} == before


def save_in_fp32(model: LoadedModel, folder: Path) -> None:
    save_model(model, folder, "lora", {})
    model.network.save_pretrained(folder)


@KINDS
def test_an_adapter_of_the_whole_vocabulary_fits_the_cut_one(kind: str, tmp_path: Path) -> None:
    whole = base(kind)
    pretrain(tmp_path / "it", whole, ENDS)
    model = cut(base(kind))
    adapter = LoraAdapter(model, ENDS, tmp_path / "it")
    new_ids = [3, 1, 8, 8, 0, 5]
    expected = logits_at(whole, [KEPT[i] for i in new_ids])[:, list(KEPT)]
    torch.testing.assert_close(logits_at(model, new_ids), expected, rtol=1e-4, atol=1e-3)
    adapter.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / KEPT_FILE).read_text()) == list(KEPT)


@KINDS
def test_an_adapter_of_a_cut_vocabulary_merges_into_the_whole_model(kind: str, tmp_path: Path) -> None:
    """Logits of the tokens that were kept are those of the cut model; the embeddings of others are the base's."""
    save_in_fp32(base(kind), tmp_path / "base")
    model = cut(base(kind))
    pretrain(tmp_path / "it", model, ENDS)
    assert main(["merge", str(tmp_path / "base"), str(tmp_path / "it"), "--out", str(tmp_path / "merged")]) == 0
    merged, new_ids = replace(base(kind), network=load_network(tmp_path / "merged", torch.float32)), [3, 1, 8, 8, 0, 5]
    found = logits_at(merged, [KEPT[i] for i in new_ids])[:, list(KEPT)]
    torch.testing.assert_close(found, logits_at(model, new_ids), rtol=1e-4, atol=1e-3)
    rows, base_rows = (each.network.get_input_embeddings().weight for each in (merged, base(kind)))
    others = [i for i in range(len(rows)) if i not in KEPT]
    assert torch.equal(rows[others], base_rows[others]) and not torch.equal(rows[list(KEPT)], base_rows[list(KEPT)])


def test_an_adapter_of_one_cut_fits_another_cut(tmp_path: Path) -> None:
    """Of as many tokens, so that nothing but their ids tells the two apart."""
    other = (0, 1, 2, 3, 6, 9, 12, 14, 15)
    model = cut(base())
    pretrain(tmp_path / "it", model, ENDS)
    again = cut(base(), other)
    LoraAdapter(again, ENDS, tmp_path / "it")
    shared = [token for token in KEPT if token in other]
    ids = [shared[i] for i in (2, 0, 4, 4)]
    found = logits_at(again, [other.index(token) for token in ids])[:, [other.index(token) for token in shared]]
    expected = logits_at(model, [KEPT.index(token) for token in ids])[:, [KEPT.index(token) for token in shared]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


Spoil = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


def spoilt(change: Callable[[str], str]) -> Spoil:
    return lambda factors: {change(name): factor for name, factor in factors.items()}


def with_nan(factors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    next(iter(factors.values()))[0, 0] = torch.nan
    return factors


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoilt(lambda name: name.replace(".layers.", ".blocks.")), "it lacks 8, such as .* and has 8 others"),
        (spoilt(lambda name: name.replace("layers.0", "layers.7")), "it lacks 4, such as .*layers.0.* has 4 others"),
        (lambda factors: dict([*factors.items()][2:]), "it lacks 2, such as .* has no others"),
        (lambda factors: {n: f[:, :3] if "lora_A" in n else f for n, f in factors.items()}, r"found shape \(4, 3\) of"),
        (with_nan, "that are not finite"),
    ],
    ids=["renamed", "layer", "missing", "shape", "nan"],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, spoil: Spoil, said: str) -> None:
    pretrain(tmp_path / "it", base(), MIDDLE)
    path = tmp_path / "it" / "adapter_model.safetensors"
    save_file({name: factor.contiguous() for name, factor in spoil(load_file(path)).items()}, path)
    with pytest.raises(ModelError, match=f"^adapter {tmp_path / 'it'}: .*{said}"):
        LoraAdapter(base(), MIDDLE, tmp_path / "it")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"nothing"), "SafetensorError"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "expected adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "expected a JSON object"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "found no such file, expected a LoRA adapter"),
        (lambda folder: rename(folder / "adapter_config.json"), "found a model of its own, expected a LoRA adapter"),
        (lambda folder: describe(folder, peft_type="IA3"), "found 'IA3' for its peft_type"),
        (lambda folder: describe(folder, init_lora_weights="pissa_niter_4"), "found init_lora_weights 'pissa_niter_4'"),
        (lambda folder: describe(folder, target_modules=["nowhere"]), "expected modules of this model"),
    ],
)
def test_what_is_no_adapter_of_this_model_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    pretrain(tmp_path / "it", base(), MIDDLE)
    spoil(tmp_path / "it")
    with pytest.raises(ModelError, match=said):
        LoraAdapter(base(), MIDDLE, tmp_path / "it")


def rename(path: Path) -> None:
    shutil.move(path, path.with_name("config.json"))


def describe(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_merge_leaves_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "merged").mkdir()
    words = [str(tmp_path / "base"), str(tmp_path / "it"), "--out", str(tmp_path / "merged")]
    assert main(["merge", *words]) == 2
    assert "found it there already" in capsys.readouterr().err
    assert main(["merge", *words, "--overwrite"]) == 2
    assert f"model folder {tmp_path / 'base'}: found no config.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
