"""Training on prompts with completions: what is drawn, what is held out, and that it is learnt."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompt_models import write_set, write_text_model

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import load_text_model
from arc_kaggle.text.tokens import NOT_TRAINED
from arc_kaggle.training.log import read_log
from arc_kaggle.training.prompt_data import PromptSource, PromptValidation, load_prompt_mixture
from arc_kaggle.training.session import train
from arc_kaggle.training.trainee import make_trainee

LINES = [{"prompt": f"input {i} grid", "completion": f"output {9 * i}"} for i in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("base"))


def config_of(tmp_path: Path, base: Path, **changes: Any) -> TrainConfig:
    data = write_set(tmp_path / "set.jsonl", LINES)
    options: dict[str, Any] = {
        "start": base,
        "steps": 4,
        "tokens_per_batch": 128,
        "bucket": 16,
        "max_tokens": 64,
        "precision": "fp32",
        "save_every": 2,
        "hold_out": 0.3,
        "optim": OptimConfig(learning_rate=1e-2),
    }
    return TrainConfig(tmp_path / "out", (f"prompts:{data}",), **{**options, **changes})


def test_held_out_questions_are_never_drawn(tmp_path: Path, base: Path) -> None:
    config = config_of(tmp_path, base)
    mixture = load_prompt_mixture(config)
    source = PromptSource(mixture, load_text_model(base, "fp32", "cpu").tokenizer, config)
    held = {item.question for item in mixture.files[0].held_out}
    rng = np.random.default_rng(0)
    drawn = {source.tokenizer.decode(source.draw(rng, 64).ids.tolist()).partition("output")[0] for _ in range(200)}
    assert len(held) > 1 and len(drawn) == len(LINES) - len(held)
    assert not held & drawn


def test_weights_say_how_often_a_file_is_drawn(tmp_path: Path, base: Path) -> None:
    other = write_set(tmp_path / "other.jsonl", [{"prompt": "task", "completion": "x"}])
    config = config_of(tmp_path, base, hold_out=0.0)
    both = TrainConfig(config.out, (*config.data, f"prompts:{other}=3"), start=base, hold_out=0.0)
    source = PromptSource(load_prompt_mixture(both), load_text_model(base, "fp32", "cpu").tokenizer, both)
    rng = np.random.default_rng(0)
    n_other = sum("task" in source.tokenizer.decode(source.draw(rng, 64).ids.tolist()) for _ in range(400))
    assert 250 < n_other < 350


def test_longer_items_are_left_out_and_said(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tmp_path, base)
    write_set(tmp_path / "set.jsonl", [*LINES, {"prompt": "grid " * 200, "completion": "1"}])
    PromptSource(load_prompt_mixture(config), load_text_model(base, "fp32", "cpu").tokenizer, config)
    assert "left out 1 of" in capsys.readouterr().err
    write_set(tmp_path / "set.jsonl", [{"prompt": "grid " * 200, "completion": "1"}])
    with pytest.raises(ConfigError, match="found a file with no item to train on within 64 tokens"):
        PromptSource(load_prompt_mixture(config), load_text_model(base, "fp32", "cpu").tokenizer, config)


def test_completions_are_learnt_and_the_best_model_is_kept(tmp_path: Path, base: Path) -> None:
    """The best has the lowest validation loss of all that were saved, the last one perhaps not."""
    config = config_of(tmp_path, base, steps=40, save_every=5, keep_best=True)
    train(config)
    rows = read_log(config.out / "log.jsonl")
    losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert min(losses) < losses[0] / 2
    best = read_card(config.out / "best")
    assert best is not None and best.facts["validation_loss"] == min(losses[1:])


LONG = {"prompt": "grid " * 66, "completion": "1"}
"""Its digest is below 0.05, which that of none of LINES is, and it has over 64 tokens."""


@pytest.mark.parametrize(
    ("lines", "said"), [(LINES, "found 0 of 12 held out"), ([*LINES, LONG], "found 1 of 13 held out, .* max_tokens 64")]
)
def test_the_best_is_refused_where_nothing_says_which_it_is(tmp_path: Path, base: Path, lines: Any, said: str) -> None:
    config = config_of(tmp_path, base, keep_best=True, hold_out=0.05)
    write_set(tmp_path / "set.jsonl", lines)
    with pytest.raises(ConfigError, match=f"option keep_best: {said}.*; give --hold-out larger than 0.05"):
        train(config)
    assert not config.out.exists()
    assert train(replace(config, keep_best=False))["validation_loss"] is None


def test_a_best_model_whose_loss_was_no_number_is_replaced(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([float("nan")] * 2 + [3.0, float("nan")])
    monkeypatch.setattr(PromptValidation, "measure", lambda *_: {"validation_loss": next(losses)})
    config = config_of(tmp_path, base, steps=3, save_every=1, keep_best=True)
    train(config)
    best = read_card(config.out / "best")
    assert best is not None and (best.facts["steps"], best.facts["validation_loss"]) == (2, 3.0)


def test_a_run_that_begins_anew_leaves_no_model_of_the_earlier_one(tmp_path: Path, base: Path) -> None:
    """The earlier run was better, and had an average: neither its best model nor its average is there any longer."""
    config = config_of(tmp_path, base, steps=20, save_every=10, keep_best=True, ema=0.9)
    earlier = train(config)
    shutil.rmtree(config.out / "checkpoints")
    anew = replace(config, steps=2, save_every=1, ema=0.0)
    assert train(anew)["validation_loss"] > earlier["validation_loss"]
    best = read_card(config.out / "best")
    assert best is not None and best.facts["settings"]["steps"] == 2
    assert not (config.out / "ema").exists() and not (config.out / "best" / "ema").exists()
    with pytest.raises(ConfigError, match=r"start: found .*best, which the run itself replaces"):
        replace(config, start=config.out / "best")


def test_a_resumed_run_keeps_its_best_model(tmp_path: Path, base: Path) -> None:
    config = config_of(tmp_path, base, keep_best=True)
    train(config)
    (config.out / "best" / "mark").write_text("")
    shutil.rmtree(config.out / "checkpoints" / "step-00000004")
    assert train(config)["steps"] == 4
    assert (config.out / "best" / "mark").exists()


def test_files_of_one_name_are_validated_apart(tmp_path: Path, base: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_set(tmp_path / "other" / "set.jsonl", LINES)
    config = config_of(tmp_path, base)
    both = replace(config, data=(*config.data, f"prompts:{other}"))
    assert [file.name for file in load_prompt_mixture(both).files] == ["set.jsonl", "set.jsonl#2"]


def test_a_base_in_four_bits_leaves_the_named_modules(tmp_path: Path, base: Path) -> None:
    config = config_of(tmp_path, base, weights="lora", four_bit=True, four_bit_skip=("down_proj",))
    network: Any = make_trainee(config, torch.device("cpu")).model.network
    mlp = network.get_decoder().layers[0].mlp
    dtypes = [getattr(each, "base_layer", each).weight.dtype for each in (mlp.down_proj, mlp.up_proj)]
    assert dtypes == [torch.float32, torch.uint8]
    assert train(config)["validation_loss"] > 0


def test_validation_is_on_completions_whatever_is_trained(tmp_path: Path, base: Path) -> None:
    for loss in ("everything", "last_output"):
        config = config_of(tmp_path, base, loss=loss)
        source = PromptSource(load_prompt_mixture(config), load_text_model(base, "fp32", "cpu").tokenizer, config)
        n_trained = sum(int((example.labels != NOT_TRAINED).sum()) for example in source.examples[0])
        n_tokens = sum(len(example.ids) for example in source.examples[0])
        assert (n_trained == n_tokens) is (loss == "everything")
        (batches,) = source.validation(0).examples.values()
        texts = [source.tokenizer.decode(b.labels[b.labels != NOT_TRAINED].tolist()) for b in batches]
        assert all(text.startswith("output") and "input" not in text for text in texts)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": None}, "found prompts for a new model"),
        ({"cut_vocabulary": True}, "found prompts for a new model or a cut vocabulary"),
        ({"data": ("prompts:a.jsonl", "synth")}, "found prompts beside"),
        ({"keep_best": True, "hold_out": 0.0}, "keep_best: found hold_out 0"),
    ],
)
def test_what_does_not_go_together_is_refused(base: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig(**{"out": Path("unwritten"), "data": ("prompts:a.jsonl",), "start": base, **changes})
