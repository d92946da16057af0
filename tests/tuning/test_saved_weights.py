"""What was tuned for a task outlives its process: it comes back bit for bit, or a message says why it does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import lively_model, logits_of, random_prompts, weights_of

from arc_kaggle.config.tune import EVERYWHERE, LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import ModelError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.saved_weights import ABOUT_FILE, bits, check_tuned, fingerprint, save_tuned
from arc_kaggle.tuning.tuner import InProcessTuner

STEADY = OptimConfig(learning_rate=0.01, schedule="constant_with_warmup", warmup_fraction=0)
ALL = TuneConfig(weights="all", steps=3, optim=STEADY)
LORA = TuneConfig(weights="lora", steps=3, optim=STEADY, lora=LoraConfig(8))
ENDS = replace(LORA, lora=LoraConfig(4, modules=EVERYWHERE))
CONFIGS = pytest.mark.parametrize("config", [ALL, LORA, ENDS], ids=["all", "lora", "ends"])
KINDS = pytest.mark.parametrize(
    "make",
    [
        lambda: lively_model(0),
        lambda: seeded_qwen(),
        lambda: lively_model(0, "grid"),
    ],
    ids=["tied", "untied", "grid"],
)


def seeded_qwen() -> LoadedModel:
    torch.manual_seed(0)
    return lively_model(0, "qwen2")


def examples(seed: int = 0) -> Iterator[Example]:
    for ids in random_prompts([40] * 9, seed):
        yield Example(ids, ids)


def tuned(model: LoadedModel, config: TuneConfig, seed: int = 0) -> InProcessTuner:
    tuner = InProcessTuner(model, config)
    assert tuner.tune(examples(seed), seed, Deadline.never()).text == "tuned"
    return tuner


def answers(model: LoadedModel) -> list[tuple[list[int], list[float]]]:
    found = HFEngine(model).generate(random_prompts([9, 20, 14]), [12] * 3, Deadline.never())
    return [(each.ids.tolist(), each.log_probs.tolist()) for _, each in sorted(found, key=lambda item: item[0])]


@CONFIGS
@KINDS
def test_what_is_loaded_is_what_was_tuned(config: TuneConfig, make: Callable[[], LoadedModel], tmp_path: Path) -> None:
    """Into a new process, and over another task's weights; the base comes back after it."""
    model, fresh, used = make(), make(), make()
    base = answers(fresh)
    tuner = tuned(model, config)
    tuner.save(tmp_path / "task")
    assert answers(model) != base
    other, third = InProcessTuner(fresh, config), tuned(used, config, seed=3)
    assert answers(used) != answers(model)
    for each in (other, third):
        each.load(tmp_path / "task")
        assert weights_of(each.model.network) == weights_of(model.network)
        assert answers(each.model) == answers(model)
    other.reset()
    assert answers(fresh) == base


@CONFIGS
def test_a_task_tuned_after_a_load_ends_where_it_ends_alone(config: TuneConfig, tmp_path: Path) -> None:
    tuned(lively_model(0), config, seed=3).save(tmp_path / "task")
    model, alone = lively_model(0), lively_model(0)
    tuner = InProcessTuner(model, config)
    tuner.load(tmp_path / "task")
    assert tuner.tune(examples(), 0, Deadline.never()) == InProcessTuner(alone, config).tune(
        examples(), 0, Deadline.never()
    )
    assert torch.equal(logits_of(model.network), logits_of(alone.network))


@CONFIGS
@KINDS
def test_its_size_is_known_before(config: TuneConfig, make: Callable[[], LoadedModel], tmp_path: Path) -> None:
    tuner = InProcessTuner(make(), config)
    expected = tuner.n_bytes
    tuner.tune(examples(), 0, Deadline.never())
    tuner.save(tmp_path / "task")
    written = sum(path.stat().st_size for path in (tmp_path / "task").iterdir())
    assert expected == tuner.n_bytes
    assert written <= expected <= 1.3 * written + 2**16


def test_only_what_differs_from_the_base_is_written(tmp_path: Path) -> None:
    from safetensors import safe_open

    model = lively_model(0)
    weight = model.network.model.norm.weight.detach()
    weight[3] = 0.0
    tuner = InProcessTuner(model, ALL)
    weight[3] = -0.0
    tuner.save(tmp_path / "task")
    with safe_open(tmp_path / "task" / "weights.safetensors", "pt") as saved:
        assert list(saved.keys()) == ["model.norm.weight"]
    before = weights_of(model.network)
    tuner.tune(examples(), 0, Deadline.never())
    tuner.load(tmp_path / "task")
    assert weights_of(model.network) == before


def test_equal_numbers_are_not_always_equal_bits() -> None:
    zeros, nan = torch.zeros(3), torch.full((2, 2), torch.nan)
    assert torch.equal(zeros, -zeros) and not torch.equal(bits(zeros), bits(-zeros))
    assert torch.equal(bits(nan), bits(nan.clone())) and len(bits(torch.tensor(1.0))) == 4


@CONFIGS
def test_damage_is_found(config: TuneConfig, tmp_path: Path) -> None:
    """In every file: cut off, one bit turned, gone. The model stays what it was."""
    tuner = tuned(lively_model(0), config)
    tuner.save(tmp_path / "task")
    files = sorted((tmp_path / "task").iterdir())
    assert ABOUT_FILE in {path.name for path in files} and len(files) >= 2
    tuner.reset()
    before, rng = weights_of(tuner.model.network), np.random.default_rng(0)
    for path in files:
        sound = path.read_bytes()
        flipped = bytearray(sound)
        flipped[sound.index(b":") + int(rng.integers(2))] ^= 4
        for damaged in (sound[: len(sound) // 2], bytes(flipped), b"", None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(ModelError, match=rf"^tuned weights {tmp_path}/task: .*tune the task again$"):
                tuner.load(tmp_path / "task")
            path.write_bytes(sound)
    assert weights_of(tuner.model.network) == before
    tuner.load(tmp_path / "task")


@pytest.mark.parametrize("value", ["[]", "{}", '{"origin": {}, "sha256": []}', '{"origin": 1, "sha256": {}}', "nul"])
def test_a_strange_account_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / ABOUT_FILE).write_text(value)
    with pytest.raises(ModelError, match=r"^tuned weights .*: .*, expected what was written; delete the folder"):
        check_tuned(tmp_path, {})


@CONFIGS
def test_another_models_weights_are_refused(config: TuneConfig, tmp_path: Path) -> None:
    """Of the same shapes, and of others."""
    tuned(lively_model(0), config).save(tmp_path / "task")
    for model in (lively_model(1), seeded_qwen()):
        tuner = InProcessTuner(model, config)
        before = weights_of(model.network)
        with pytest.raises(
            ModelError, match=r"made for something else: model: found 'Llama\w+ \w{16}', expected '\w+ \w"
        ):
            tuner.load(tmp_path / "task")
        assert weights_of(model.network) == before


OTHERS = {
    "tune.lora.rank: found 8, expected 4": replace(LORA, lora=LoraConfig(4)),
    "tune.lora.modules: found ['all-linear'], expected ['q_proj']": replace(
        LORA, lora=LoraConfig(8, modules=("q_proj",))
    ),
    "tune.weights: found 'lora', expected 'all'": replace(LORA, weights="all"),
    "tune.lora.alpha: found 16, expected 8; tune.lora.rank: found 8, expected 4": replace(
        LORA, lora=LoraConfig(4, alpha=8)
    ),
}


@pytest.mark.parametrize(("said", "config"), OTHERS.items(), ids=["rank", "modules", "weights", "several"])
def test_other_options_are_named(said: str, config: TuneConfig, tmp_path: Path) -> None:
    tuned(lively_model(0), LORA).save(tmp_path / "task")
    with pytest.raises(ModelError) as caught:
        InProcessTuner(lively_model(0), config).load(tmp_path / "task")
    assert str(caught.value) == (
        f"tuned weights {tmp_path / 'task'}: made for something else: {said}; tune the task again"
    )


def test_what_shapes_no_weights_may_differ(tmp_path: Path) -> None:
    """Weights that were kept answer again, however their tasks would be tuned now."""
    first = tuned(lively_model(0), LORA)
    first.save(tmp_path / "task")
    other = InProcessTuner(lively_model(0), replace(LORA, steps=9, optim=replace(STEADY, learning_rate=1e-4)))
    other.load(tmp_path / "task")
    assert answers(other.model) == answers(first.model)


def test_a_writer_that_dies_leaves_what_was_there(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "part").write_text("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_tuned(tmp_path / "task", {}, write)
    assert not (tmp_path / "task").exists()
    save_tuned(tmp_path / "task", {}, lambda folder: (folder / "one").touch())
    with pytest.raises(KeyboardInterrupt):
        save_tuned(tmp_path / "task", {}, write)
    check_tuned(tmp_path / "task", {})
    save_tuned(tmp_path / "task", {}, lambda folder: (folder / "two").touch())
    assert {path.name for path in (tmp_path / "task").iterdir()} == {"two", ABOUT_FILE}
    assert [path.name for path in tmp_path.iterdir()] == ["task"]


def test_a_full_disk_is_a_message(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "part").write_text("a")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        ModelError, match=r"^tuned weights .*/task: could not be written: .*No space left on device; make"
    ):
        save_tuned(tmp_path / "task", {}, write)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="could not be written"):
        InProcessTuner(lively_model(0), ALL).save(tmp_path / "file" / "task")


def test_a_model_is_told_by_its_weights() -> None:
    model = lively_model(0)
    own = fingerprint(model.network)
    assert own == fingerprint(lively_model(0).network) != fingerprint(lively_model(1).network)
    adapted = InProcessTuner(model, LORA)
    assert adapted.origin["model"] == own
    with torch.no_grad():
        model.network.model.norm.weight[0] += 1e-6
    assert fingerprint(model.network) != own
    assert json.loads(json.dumps(adapted.origin)) == adapted.origin
