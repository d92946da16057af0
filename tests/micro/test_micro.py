"""Micro-step models: segments, the network beside its base, decoding beside teacher forcing, and training."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import workers_in_process
from models import VOCABULARY, generate, lively_model, random_prompts, weights_of
from train_data import rows_of, tiny_config

from arc_kaggle.cli import main
from arc_kaggle.config.answer import Decoding
from arc_kaggle.config.micro import MicroConfig, has_micro_steps
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ConfigError, EngineError, ModelError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.micro.folder import load_micro
from arc_kaggle.micro.network import Merger, MicroLM, Segments
from arc_kaggle.micro.segmentation import answer_begins, cut, uncertainty
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.training.session import train

ENTROPY = MicroConfig("entropy", threshold=2.0, most_tokens=4, stop=0.3)


def micro_of(config: MicroConfig = ENTROPY, seed: int = 1, kind: str = "llama") -> tuple[LoadedModel, LoadedModel]:
    """(a micro-step model with large random weights, its base alone)."""
    base = lively_model(seed, kind)
    torch.manual_seed(seed)
    network: Any = MicroLM(base.network, config, deepcopy(base.network)).eval()
    with torch.no_grad():
        for parameter in (*network.merger.parameters(), *network.micro.parameters()):
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    return replace(base, network=network), base


# segments


def starts(values: list[float], **options: Any) -> list[int]:
    found = cut(torch.tensor([values]), MicroConfig("entropy", **options))
    return [i for i, begins in enumerate(found[0].tolist()) if begins]


def test_segments_begin_where_the_reference_was_uncertain() -> None:
    assert starts([0, 0.1, 0.9, 0.1, 0.1], threshold=0.5) == [0, 2]


def test_a_budget_is_spent_over_a_segment() -> None:
    assert starts([0, 0.3, 0.3, 0.3, 0.3, 0.3], threshold=0.7, budget=True) == [0, 3]
    assert starts([0, 0.3, 0.3, 0.3, 0.3, 0.3], threshold=0.7) == [0]


def test_no_segment_is_too_long_and_forced_ones_begin() -> None:
    assert starts([0.0] * 7, threshold=1, most_tokens=3) == [0, 3, 6]
    labels = torch.tensor([[-100, -100, 5, 5, -100, 5]])
    assert answer_begins(labels)[0].nonzero().flatten().tolist() == [2, 5]


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("kind", ["entropy", "confidence"])
def test_uncertainty_is_that_of_the_token_before_it_is_seen(kind: Any, window: int) -> None:
    """Held against one forward pass for each token, over what it may see."""
    network, ids = lively_model(0).network, torch.from_numpy(random_prompts([9])[0])[None]
    found = uncertainty(network, ids, MicroConfig(kind, window=window))[0]
    for t in range(1, 9):
        first = max(0, t - window) if window else 0
        positions = torch.arange(first, t)[None]
        mask = torch.ones(1, t - first, dtype=torch.long)
        with torch.no_grad():
            # with one layer a band is a cut; deeper ones see further back through their own layers
            whole: Any = network(input_ids=ids[:, first:t], position_ids=positions, attention_mask=mask).logits
        p = whole[0, -1].softmax(-1)
        expected = -(p * p.log()).sum() if kind == "entropy" else 1 - p.max()
        if not window:
            assert found[t].item() == pytest.approx(expected.item(), abs=1e-4)
    if window:
        other = ids.clone()
        other[0, 0] = (ids[0, 0] + 1) % VOCABULARY
        changed = uncertainty(network, other, MicroConfig(kind, window=window))[0]
        n_seen = 2 * (window - 1) + 1  # of two layers
        assert torch.equal(found[n_seen + 1 :], changed[n_seen + 1 :]) and not torch.equal(found, changed)


def test_the_table_holds_every_token_once() -> None:
    begins = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 1, 0, 1]], dtype=torch.bool)
    segments = Segments.of(begins)
    assert segments.table.tolist() == [
        [[0, 1, -1], [2, 3, 4], [-1, -1, -1], [-1, -1, -1]],
        [[0, -1, -1], [1, -1, -1], [2, 3, -1], [4, -1, -1]],
    ]
    assert segments.within.tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 1, 0]]
    assert segments.last.tolist() == [[1, 4, 0, 0], [0, 1, 3, 4]]


# the network


@pytest.mark.parametrize("merger", ["weights", "mean", "last"])
def test_one_token_stays_what_it_is_and_padding_says_nothing(merger: Any) -> None:
    module = Merger(8, MicroConfig("entropy", merger=merger, most_tokens=3))
    embedded = torch.randn(2, 3, 8)
    one = torch.tensor([[True, False, False]] * 2)
    assert torch.equal(module(embedded, one), embedded[:, 0])
    two = torch.tensor([[True, True, False]] * 2)
    changed = embedded.clone()
    changed[:, 2] = 99
    assert torch.equal(module(embedded, two), module(changed, two))
    if merger == "mean":
        assert torch.allclose(module(embedded, two), embedded[:, :2].mean(1))
    if merger == "last":
        assert torch.equal(module(embedded, two), embedded[:, 1])


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_segments_of_one_token_are_the_base_model_exactly(kind: str) -> None:
    model, base = micro_of(replace(ENTROPY, threshold=0.0, stop=1.0), kind=kind)
    network: Any = model.network
    ids = torch.from_numpy(np.stack(random_prompts([20, 20])))
    with torch.no_grad():
        hidden = network.hidden_before(ids, Segments.of(torch.ones_like(ids, dtype=torch.bool)))
        logits = network.get_output_embeddings()(hidden)[:, 1:]
        expected: Any = base.network(input_ids=ids, use_cache=False).logits[:, :-1]
    assert torch.equal(logits, expected)
    prompts = random_prompts([7, 12, 5])
    found, wanted = generate(MicroEngine(model), prompts, [20] * 3), generate(HFEngine(base), prompts, [20] * 3)
    assert [each.ids.tolist() for each in found] == [each.ids.tolist() for each in wanted]


@pytest.mark.parametrize("config", [ENTROPY, replace(ENTROPY, stop=0.0), replace(ENTROPY, merger="mean", layers=2)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_decoding_equals_teacher_forcing(config: MicroConfig, temperature: float, kind: str) -> None:
    """In batches, with the segments that decoding itself has made."""
    model, _ = micro_of(config, kind=kind)
    prompts = random_prompts([7, 12, 5, 12])
    engine = MicroEngine(model)
    found = dict(engine.generate(prompts, [17] * 4, Deadline.never(), decoding=Decoding(temperature)))
    for i, prompt in enumerate(prompts):
        (alone,) = MicroEngine(model).generate([prompt], [17], Deadline.never(), decoding=Decoding(temperature))
        assert alone[1].ids.tolist() == found[i].ids.tolist()
        begins = decoded_starts(model, prompt, found[i].ids)
        forced = engine.log_probs(prompt, found[i].ids, begins)
        np.testing.assert_allclose(forced.numpy(), found[i].log_probs, atol=2e-4)


def decoded_starts(model: LoadedModel, prompt: Any, ids: Any) -> list[bool]:
    """Where decoding began segments: the micro decoder's confidence is asked for again, segment by segment."""
    network, config = model.network, model.network.micro_config  # type: ignore[union-attr]
    begins = [True] + [False] * (len(ids) - 1)
    length = 1
    for t in range(1, len(ids)):
        as_it_was = [*begins[:t], False]
        hidden = _hidden(model, prompt, ids[: t + 1], as_it_was) if length < config.most_tokens else None
        sure = hidden is not None and bool(hidden.softmax(-1).max() > config.stop)
        begins[t] = not sure
        length = length + 1 if sure else 1
    assert network is model.network
    return begins


@torch.no_grad()
def _hidden(model: LoadedModel, prompt: Any, ids: Any, begins: list[bool]) -> torch.Tensor:
    """Logits of the last of the ids, as a token within a segment."""
    network: Any = model.network
    whole = torch.from_numpy(np.concatenate([prompt, ids]))[None]
    forced = torch.zeros_like(whole, dtype=torch.bool)
    forced[0, len(prompt)] = True
    config = network.micro_config
    found = cut(uncertainty(network.reference[0], whole, config), config, forced)
    found[0, len(prompt) :] = torch.tensor(begins)
    logits: torch.Tensor = network.get_output_embeddings()(network.hidden_before(whole, Segments.of(found))[0, -1])
    return logits


def test_early_stop_at_1_is_the_base_and_at_0_writes_whole_segments() -> None:
    prompts = random_prompts([7, 12])
    for stop, most in ((1.0, 1), (0.0, 4)):
        model, _ = micro_of(replace(ENTROPY, stop=stop))
        engine = MicroEngine(model)
        (_, first), (_, second) = sorted(engine.generate(prompts, [16, 16], Deadline.never()), key=lambda each: each[0])
        expected = sum(-(-len(each.ids) // most) for each in (first, second))
        assert engine.counts.macro_steps == expected
        assert engine.counts.tokens == len(first.ids) + len(second.ids)


def test_the_loss_is_that_of_the_labels_and_reaches_all_modules() -> None:
    model, _ = micro_of()
    ids = torch.from_numpy(np.stack(random_prompts([20, 20])))
    labels = ids.clone()
    labels[:, :6] = -100
    total, n_labels = summed_loss(model, ids, labels)
    assert n_labels == 28
    total.backward()  # type: ignore[no-untyped-call]
    for name in ("base", "merger", "micro"):
        grads = [p.grad for p in getattr(model.network, name).parameters()]
        assert any(grad is not None and bool(grad.abs().sum() > 0) for grad in grads), name
    engine = MicroEngine(model)
    ((_, nlls),) = engine.score([ids[0, :6].numpy()], [[ids[0, 6:].numpy()]], Deadline.never())
    only, _ = summed_loss(model, ids[:1], labels[:1])
    assert nlls[0] == pytest.approx(only.item(), rel=1e-4)


def test_what_the_engine_cannot_do_is_refused() -> None:
    engine = MicroEngine(micro_of()[0])
    for call in (
        lambda: list(engine.generate(random_prompts([3]), [3], Deadline.never(), decoding=Decoding(beams=2))),
        lambda: list(engine.search(random_prompts([3]), [3], Deadline.never(), None)),  # type: ignore[arg-type]
    ):
        with pytest.raises(EngineError, match="micro-step model"):
            call()


# training


@pytest.fixture
def start(tmp_path: Path) -> Path:
    save_model(new_model(32, 1, 3), tmp_path / "start", "none", {})
    return tmp_path / "start"


def micro_config(tmp_path: Path, start: Path, **changes: Any) -> Any:
    micro = MicroConfig("entropy", threshold=1.5, most_tokens=4, stop=0.3)
    return tiny_config(tmp_path, start=start, micro=micro, **changes)


def test_the_first_stage_leaves_the_base_bit_for_bit(tmp_path: Path, start: Path) -> None:
    stages = {"first_stage_steps": 2, "first_stage_modules": ("merger", "micro"), "first_stage_learning_rate": 1e-2}
    config = micro_config(tmp_path, start, steps=3, save_every=2, optim=OptimConfig(learning_rate=1e-2), **stages)
    train(config)
    first = load_model(config.out / "checkpoints" / "step-00000002" / "base", "fp32", "cpu")
    assert weights_of(first.network) == weights_of(load_model(start, "fp32", "cpu").network)
    assert weights_of(load_model(config.out / "base", "fp32", "cpu").network) != weights_of(first.network)
    assert weights_of(load_network(config.out / "reference", torch.float32)) == weights_of(first.network)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, start: Path) -> None:
    config = micro_config(tmp_path, start, steps=4, save_every=2)
    train(config)
    rows = rows_of(config)
    for step in ("step-00000004",):
        import shutil

        shutil.rmtree(config.out / "checkpoints" / step)
    train(config)
    assert rows_of(config) == rows


def test_an_adapter_on_the_base_is_saved_merged(tmp_path: Path, start: Path) -> None:
    config = micro_config(tmp_path, start, weights="lora", lora=LoraConfig(4), optim=OptimConfig(learning_rate=1e-2))
    train(config)
    base = load_model(config.out / "base", "fp32", "cpu").network
    names = {name: tensor.shape for name, tensor in base.state_dict().items()}
    assert names == {n: t.shape for n, t in load_model(start, "fp32", "cpu").network.state_dict().items()}
    assert weights_of(base) != weights_of(load_model(start, "fp32", "cpu").network)


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_it_is_solved_with_and_converted(
    tmp_path: Path, start: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kind in this process, the second one as every run is, with a worker of its own."""
    if kind == "llama":
        workers_in_process(monkeypatch)
    else:
        start = tmp_path / "grid"
        save_model(new_grid_model(32, 1, 3), start, "none", {})
    config = micro_config(tmp_path, start)
    train(config)
    assert has_micro_steps(config.out)
    words = ["solve", "--tasks", config.data[0], "--model", str(config.out), "--out", str(tmp_path / "run")]
    assert main([*words, "--generate.n-views", "2", "--recipe", "auto"]) == 3  # it has learnt nothing in three steps
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["counts"]["reasons"] if "counts" in report else report
    assert main(["convert-weights", str(config.out), "--out", str(tmp_path / "plain")]) == 0
    ids = torch.arange(12)[None]
    options: Any = SolveConfig("unread", Path("unwritten"), model=config.out, precision="fp32", device="cpu")
    inside, plain = load_micro(config.out, options).network.base, load_model(tmp_path / "plain", "fp32", "cpu").network
    with torch.no_grad():
        found: Any = plain(input_ids=ids).logits
        assert torch.equal(inside(input_ids=ids).logits, found)
    with pytest.raises(ModelError, match="found no micro-step model"):
        main_raises(["convert-weights", str(tmp_path / "plain"), "--out", str(tmp_path / "again")])


def test_it_is_judged_as_one_model_and_its_parts_where_they_are_named(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_in_process(monkeypatch)
    train(micro_config(tmp_path, start, steps=1))
    (whole,) = find_model_folders((tmp_path / "out",))
    assert whole.folder == tmp_path / "out" and has_micro_steps(whole.folder)
    (base,) = find_model_folders((tmp_path / "out" / "base",))
    assert base.folder.name == "base" and base.digest != whole.digest
    reference = next((tmp_path / "out" / "reference").glob("*.safetensors"))
    reference.write_bytes(reference.read_bytes()[:-1] + b"!")
    assert find_model_folders((tmp_path / "out",))[0].digest != whole.digest
    words = ["evaluate", str(tmp_path / "out"), "--tasks", "arc1:training", "--select", "shortest:1"]
    options = ["--recipes", "none", "--generate.n-views", "1", "--generate.max-new-tokens", "8", "--precision", "fp32"]
    assert main([*words, "--out", str(tmp_path / "judged"), *options]) == 0
    assert [*json.loads((tmp_path / "judged" / "evaluation.json").read_text())["summary"]] == ["out/none"]


def main_raises(words: list[str]) -> None:
    from arc_kaggle.cli import run_command

    run_command(words[0], words[1:])


@pytest.mark.parametrize("changes", [{"cut_vocabulary": True}, {"batching": "packed"}, {"ema": 0.9}, {"start": None}])
def test_what_does_not_go_with_micro_steps_is_refused(tmp_path: Path, start: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^option (micro|start): found"):
        replace(micro_config(tmp_path, start), **changes)


def test_fine_tuning_and_vllm_are_refused_for_such_a_model(tmp_path: Path) -> None:
    (tmp_path / "micro.json").write_text("{}")
    with pytest.raises(ConfigError, match="found a micro-step model with tune"):
        SolveConfig("unread", Path("unwritten"), model=tmp_path, recipe="lora")
    with pytest.raises(EngineError, match="which lacks micro steps"):
        SolveConfig("unread", Path("unwritten"), model=tmp_path, recipe="none", engine="vllm")
