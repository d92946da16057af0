"""Test-time fine-tuning: it learns, it stops in time, and where it goes wrong the base answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import TickingClock, digest, logits_of, weights_of
from torch import Tensor

from arc_kaggle import optim
from arc_kaggle.budget import Deadline
from arc_kaggle.config import SolveConfig
from arc_kaggle.encoder import MinimalGridEncoder
from arc_kaggle.engines.hf import HFEngine
from arc_kaggle.errors import TuneError
from arc_kaggle.grid import as_grid
from arc_kaggle.model import LoadedModel, new_model
from arc_kaggle.recipe import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.solve import Method, tune_task
from arc_kaggle.task import Pair, Task
from arc_kaggle.tokens import Example
from arc_kaggle.tune import InProcessTuner, check_progress, fit_example, tuning_examples

ENCODER = MinimalGridEncoder()
STEADY = OptimConfig(learning_rate=3e-3, schedule="constant_with_warmup", warmup_fraction=0)
ALL = TuneConfig(weights="all", steps=8, batch_size=2, optim=STEADY)
LORA = TuneConfig(weights="lora", steps=8, batch_size=2, optim=replace(STEADY, learning_rate=0.02), lora=LoraConfig(8))
CONFIGS = pytest.mark.parametrize("config", [ALL, LORA], ids=["all", "lora"])


def copy_task(n_train: int = 3, answer: int = 7) -> Task:
    """Every output is its input; the test output is one cell of `answer`."""
    grids = [as_grid([[1, 2], [i, 3]]) for i in range(n_train)]
    return Task("copy", tuple(Pair(grid, grid) for grid in grids), (Pair(grids[0], as_grid([[answer]])),))


def examples_of(task: Task, model: LoadedModel, config: TuneConfig, seed: int = 0) -> Iterator[Example]:
    rng = np.random.default_rng(seed)
    return tuning_examples(task, ENCODER, model.prompt_format, model.tokenizer, config, rng)


def tune(model: LoadedModel, config: TuneConfig, deadline: Deadline | None = None, task: Task | None = None) -> Any:
    examples = examples_of(task or copy_task(), model, config)
    return InProcessTuner(model, config).tune(examples, 0, deadline or Deadline.never())


def assert_base(model: LoadedModel) -> None:
    """The model is what it was when it was new, and ready to answer."""
    base = new_model(64, 2, 0)
    now = {name.replace(".base_layer", ""): value for name, value in weights_of(model.network).items()}
    assert {name: now[name] for name in weights_of(base.network)} == weights_of(base.network)
    assert torch.equal(logits_of(model.network), logits_of(base.network))
    assert not model.network.training
    assert all(parameter.grad is None for parameter in model.network.parameters())


@CONFIGS
def test_the_loss_falls(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, replace(config, steps=40))
    assert (report.outcome, report.steps) == ("tuned", 40)
    assert report.first_loss == pytest.approx(2.77, abs=0.1)  # ln 16, as many as there are symbols
    assert report.last_loss < 0.95 * report.first_loss
    assert not model.network.training


@CONFIGS
def test_equal_seeds_tune_equally(config: TuneConfig) -> None:
    models = [new_model(64, 2, 0) for _ in range(2)]
    assert tune(models[0], config) == tune(models[1], config)
    assert torch.equal(logits_of(models[0].network), logits_of(models[1].network))


@CONFIGS
def test_every_task_begins_with_the_base(config: TuneConfig) -> None:
    """A task tuned after another one ends where it ends alone."""
    used, fresh = new_model(64, 2, 0), new_model(64, 2, 0)
    tuner = InProcessTuner(used, config)
    tuner.tune(examples_of(copy_task(4), used, config, seed=5), 5, Deadline.never())
    report = tuner.tune(examples_of(copy_task(), used, config), 0, Deadline.never())
    assert report == tune(fresh, config)
    assert torch.equal(logits_of(used.network), logits_of(fresh.network))
    tuner.reset()
    assert_base(used)


@CONFIGS
@pytest.mark.parametrize("learning_rate", [1e30, 1e38])
def test_numbers_that_are_not_finite_fall_back_to_the_base(config: TuneConfig, learning_rate: float) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, replace(config, optim=replace(STEADY, learning_rate=learning_rate)))
    assert report.outcome.startswith("base: loss ")
    assert "expected finite numbers" in report.outcome
    assert 1 <= report.steps < config.steps
    assert_base(model)


def scale_losses(monkeypatch: pytest.MonkeyPatch, factors: Iterator[float]) -> None:
    """Every loss that is taken from now on is multiplied by the next factor."""
    own = optim.summed_loss

    def scaled(*batch: Any) -> tuple[Tensor, int]:
        total, n_labels = own(*batch)
        return total * next(factors), n_labels

    monkeypatch.setattr(optim, "summed_loss", scaled)


@CONFIGS
@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_one_bad_loss_falls_back_to_the_base(
    config: TuneConfig, step: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_losses(monkeypatch, iter([1.0] * step + [value]))
    model = new_model(64, 2, 0)
    report = tune(model, config)
    assert report.outcome.startswith(f"base: loss {value} with gradient norm nan")
    assert report.steps == step
    assert_base(model)


@CONFIGS
def test_divergence_falls_back_to_the_base(config: TuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    scale_losses(monkeypatch, iter(range(1, 99)))
    model = new_model(64, 2, 0)
    report = tune(model, config)
    assert report.outcome.startswith("base: diverged: loss 2.7")
    assert report.steps == config.steps
    assert_base(model)


@pytest.mark.parametrize("steps", [2, 12])
def test_a_rate_that_is_too_high_falls_back_to_the_base(steps: int) -> None:
    """The loss explodes in the first steps and stays high, so that the first quarter is as bad as the last."""
    model = new_model(64, 2, 0)
    report = tune(model, replace(ALL, steps=steps, optim=replace(STEADY, learning_rate=3.0)))
    assert report.outcome.startswith("base: diverged: loss 2.7")
    assert_base(model)


@pytest.mark.parametrize("losses", [[1.0], [1.0, 1.5], [2.0, 9.0, 9.0, 1.0], [0.01, 0.1], [0.5] + [1.4] * 7])
def test_ups_and_downs_are_no_divergence(losses: list[float]) -> None:
    check_progress(losses)


@pytest.mark.parametrize("losses", [[1.0, 1.7], [0.0, 0.2], [1.0] * 6 + [2.0] * 2, [2.7] + [300.0] * 11])
def test_an_end_clearly_worse_than_the_beginning_is(losses: list[float]) -> None:
    with pytest.raises(
        TuneError, match=r"^diverged: loss \d+.\d+ at first, mean \d+.\d+ in the first quarter, \d+.\d+ in"
    ):
        check_progress(losses)


@CONFIGS
def test_what_is_learnt_by_the_deadline_is_kept(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, config, Deadline(5.5, TickingClock()))
    assert 1 <= report.steps <= 4
    assert report.outcome == f"tuned (cut off after {report.steps} steps)"
    assert not torch.equal(logits_of(model.network), logits_of(new_model(64, 2, 0).network))


def test_the_most_seconds_of_a_task_count_from_its_beginning() -> None:
    clock = TickingClock()
    clock.seconds = 1000
    report = tune(new_model(64, 2, 0), replace(ALL, max_seconds=3), Deadline(1e9, clock))
    assert report.outcome == "tuned (cut off after 2 steps)"


@CONFIGS
def test_without_time_the_base_answers(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, config, Deadline(0, lambda: 1))
    assert (report.outcome, report.steps, report.first_loss) == ("base: no time for a single step", 0, None)
    assert_base(model)


@CONFIGS
def test_a_task_of_which_no_two_pairs_fit_is_answered_by_the_base(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, replace(config, max_tokens=20))
    assert report.outcome == "base: task copy: no two of its 3 train pairs fit 20 tokens"
    assert_base(model)


def solved(model: LoadedModel, tuner: InProcessTuner | None, task: Task, config: TuneConfig) -> Any:
    method = Method(HFEngine(model), tuner, ENCODER, model.prompt_format, model.tokenizer)
    return tune_task(task, method, SolveConfig("unread", Path("unwritten"), tune=config), Deadline.never())


@CONFIGS
def test_a_task_with_one_train_pair_is_answered_by_the_base(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    tuner = InProcessTuner(model, config)
    assert solved(model, tuner, copy_task(2), config).outcome == "tuned"
    report = solved(model, tuner, copy_task(1), config)
    assert report.outcome == "base: one train pair, fine-tuning needs two"
    assert_base(model)
    assert tuner.tune(examples_of(copy_task(1), model, config), 0, Deadline.never()).outcome.startswith("base: ")


def test_without_a_tuner_the_base_answers() -> None:
    model = new_model(64, 2, 0)
    assert solved(model, None, copy_task(), ALL).outcome == "base: no fine-tuning asked for"


def lengths(task: Task, model: LoadedModel, max_tokens: int) -> tuple[int, int]:
    """(tokens, labels' ends) of the example that fits."""
    example = fit_example(task, ENCODER, model.prompt_format, model.tokenizer, max_tokens)
    return len(example.ids), int((example.labels == model.end_id).sum())


def test_of_a_long_task_the_last_pairs_are_left_out() -> None:
    model = new_model(64, 2, 0)
    task = copy_task(4)  # a pair is 13 tokens: I, 5 of a grid, O, 5, the end
    assert lengths(task, model, 53) == (53, 3)
    assert lengths(task, model, 52) == (40, 2)
    assert lengths(task, model, 40) == (40, 2)
    assert lengths(task, model, 39) == lengths(task, model, 27) == (27, 1)
    with pytest.raises(TuneError, match=r"^task copy: no two of its 4 train pairs fit 26 tokens"):
        lengths(task, model, 26)


def test_the_first_pairs_are_the_ones_that_stay() -> None:
    model, task = new_model(64, 2, 0), copy_task(4)
    whole, short = (
        fit_example(task, ENCODER, model.prompt_format, model.tokenizer, max_tokens) for max_tokens in (53, 30)
    )
    assert short.ids.tolist() == whole.ids[:27].tolist()


def test_a_long_task_is_tuned_on_what_fits() -> None:
    model = new_model(64, 2, 0)
    config = replace(ALL, max_tokens=30)
    assert {len(example.ids) for example in islice(examples_of(copy_task(5), model, config), 20)} == {27}
    assert tune(model, config, task=copy_task(5)).outcome == "tuned"


def test_examples_differ_and_follow_from_the_generator() -> None:
    model = new_model(64, 2, 0)
    first, second, other = (
        [example.ids.tolist() for example in islice(examples_of(copy_task(), model, ALL, seed), 20)]
        for seed in (0, 0, 1)
    )
    assert first == second != other
    assert len({tuple(ids) for ids in first}) == 20


OUTPUTS = [as_grid([[8]]), as_grid(np.arange(900).reshape(30, 30) % 10), None]


@pytest.mark.parametrize("output", OUTPUTS, ids=["another", "large", "unknown"])
def test_the_solution_changes_no_example_and_no_weight(output: Any) -> None:
    task, model = copy_task(), new_model(64, 2, 0)
    altered = replace(task, test=tuple(Pair(pair.input, output) for pair in task.test))
    pairs = zip(examples_of(task, model, ALL), examples_of(altered, model, ALL), strict=True)
    for one, other in islice(pairs, 30):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.labels.tolist() == other.labels.tolist()
    tuned = []
    for each in (task, altered):
        fresh = new_model(64, 2, 0)
        report = solved(fresh, InProcessTuner(fresh, ALL), each, ALL)
        tuned.append((replace(report, seconds=0), digest(logits_of(fresh.network))))
    assert tuned[0] == tuned[1]
