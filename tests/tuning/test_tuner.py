"""Test-time fine-tuning: it learns, it stops in time, and where it goes wrong the base answers."""

from __future__ import annotations

import ctypes
import platform
import resource
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import TickingClock, digest, logits_of, weights_of
from torch import Tensor

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.gentleness import gentler_tuning
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import TuneError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.measured import project_memory
from arc_kaggle.models.new_model import new_model
from arc_kaggle.run.worker.method import Method, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import is_out_of_memory
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.encoders import MinimalGridEncoder
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning import optimizer as optim
from arc_kaggle.tuning.examples import fit_example, tuning_examples
from arc_kaggle.tuning.outcome import OUT_OF_MEMORY
from arc_kaggle.tuning.tuner import InProcessTuner, check_progress, tune_within_memory

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
    return tuning_examples(task, model.notation, config, rng)


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
    assert (report.text, report.steps) == ("tuned", 40)
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
@pytest.mark.parametrize("learning_rate", [1e8, 1e9])
def test_numbers_that_are_not_finite_fall_back_to_the_base(config: TuneConfig, learning_rate: float) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, replace(config, optim=replace(STEADY, learning_rate=learning_rate)))
    assert report.text.startswith("base: loss ")
    assert "expected finite numbers" in report.text
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
    assert report.text.startswith(f"base: loss {value} with gradient norm nan")
    assert report.steps == step
    assert_base(model)


@CONFIGS
def test_divergence_falls_back_to_the_base(config: TuneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    scale_losses(monkeypatch, iter(range(1, 99)))
    model = new_model(64, 2, 0)
    report = tune(model, config)
    assert report.text.startswith("base: diverged: loss 2.7")
    assert report.steps == config.steps
    assert_base(model)


@pytest.mark.parametrize("steps", [2, 12])
def test_a_rate_that_is_too_high_falls_back_to_the_base(steps: int) -> None:
    """The loss explodes in the first steps and stays high, so that the first quarter is as bad as the last."""
    model = new_model(64, 2, 0)
    report = tune(model, replace(ALL, steps=steps, optim=replace(STEADY, learning_rate=3.0)))
    assert report.text.startswith("base: diverged: loss 2.7")
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
    assert report.text == f"tuned (cut off after {report.steps} steps)"
    assert not torch.equal(logits_of(model.network), logits_of(new_model(64, 2, 0).network))


def test_the_most_seconds_of_a_task_count_from_its_beginning() -> None:
    clock = TickingClock()
    clock.seconds = 1000
    report = tune(new_model(64, 2, 0), replace(ALL, max_seconds=3), Deadline(1e9, clock))
    assert report.text == "tuned (cut off after 2 steps)"


@CONFIGS
def test_without_time_the_base_answers(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, config, Deadline(0, lambda: 1))
    assert (report.text, report.steps, report.first_loss) == ("base: no time for a single step", 0, None)
    assert_base(model)


@CONFIGS
def test_a_task_of_which_no_two_pairs_fit_is_answered_by_the_base(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    report = tune(model, replace(config, max_tokens=20))
    assert report.text == "base: task copy: no two of its 3 train pairs fit 20 tokens"
    assert_base(model)


def solved(model: LoadedModel, tuner: InProcessTuner | None, task: Task, config: TuneConfig) -> Any:
    method = Method(HFEngine(model), tuner, model.notation)
    return tune_task(task, method, SolveConfig("unread", Path("unwritten"), tune=config), Deadline.never())


@CONFIGS
def test_a_task_with_one_train_pair_is_answered_by_the_base(config: TuneConfig) -> None:
    model = new_model(64, 2, 0)
    tuner = InProcessTuner(model, config)
    assert solved(model, tuner, copy_task(2), config).text == "tuned"
    report = solved(model, tuner, copy_task(1), config)
    assert report.text == "base: one train pair, fine-tuning needs two"
    assert_base(model)
    assert tuner.tune(examples_of(copy_task(1), model, config), 0, Deadline.never()).text.startswith("base: ")


def test_without_a_tuner_the_base_answers() -> None:
    model = new_model(64, 2, 0)
    assert solved(model, None, copy_task(), ALL).text == "base: no fine-tuning asked for"


HOST = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."
FULL = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), RuntimeError(HOST), MemoryError()]


def run_out(
    monkeypatch: pytest.MonkeyPatch, model: LoadedModel, error: BaseException, most: int, step: int = 0
) -> None:
    """From `step` on memory runs out in the middle of a step of over `most` tokens; checkpointing counts for half."""
    own, losses = optim.summed_loss, count()

    def limited(*batch: Any) -> Any:
        loss = own(*batch)
        n_tokens = batch[1].numel() // (1 + checkpoints(model))
        if next(losses) >= step and n_tokens > most:
            loss[0].backward()
            raise error
        return loss

    monkeypatch.setattr(optim, "summed_loss", limited)


def checkpoints(model: LoadedModel) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in model.network.modules())


@CONFIGS
@pytest.mark.parametrize("error", FULL, ids=["gpu", "host", "python"])
@pytest.mark.parametrize("step", [0, 5])
def test_where_memory_runs_out_the_base_answers(
    config: TuneConfig, error: BaseException, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(64, 2, 0)
    with monkeypatch.context() as patch:
        run_out(patch, model, error, most=0, step=step)
        assert tune(model, config).reason == OUT_OF_MEMORY
    assert_base(model)


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model(64, 2, 0)
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory(error)
    run_out(monkeypatch, model, error, most=0)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tune(model, ALL)


def test_each_level_is_gentler_than_the_one_before() -> None:
    config = TuneConfig(max_tokens=1000, tokens_per_step=600)
    assert gentler_tuning(config, 0) == config
    assert gentler_tuning(config, 1) == replace(config, checkpointing=True)
    assert gentler_tuning(config, 2) == replace(config, checkpointing=True, max_tokens=500, tokens_per_step=300)
    assert gentler_tuning(replace(config, tokens_per_step=None), 2).tokens_per_step is None
    assert {gentler_tuning(config, level).weights for level in (3, 4, 9)} == {"none"}


LEVELS = {
    1000: "tuned",
    100: "tuned (gradient checkpointing)",
    50: "tuned (gradient checkpointing, examples of half the length)",
    10: "base: out of memory, gradient checkpointing, examples of half the length, no fine-tuning",
}


@CONFIGS
@pytest.mark.parametrize("most", LEVELS)
def test_where_memory_runs_out_a_task_is_tuned_more_gently(
    config: TuneConfig, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 pairs are 66 tokens, 80 with padding, two examples a step; half of 66 is two pairs. The next task is not."""
    model, config = new_model(64, 2, 0), replace(config, max_tokens=70)
    tuner = InProcessTuner(model, config)

    def ladder(task: Task, level: int = 0) -> Any:
        def examples(each: TuneConfig) -> Iterator[Example]:
            return examples_of(task, model, each)

        return tune_within_memory(tuner, examples, config, 0, Deadline.never(), level)

    with monkeypatch.context() as patch:
        run_out(patch, model, FULL[1], most, step=3)
        report = ladder(copy_task(5))
        level = list(LEVELS).index(most)
        assert report.text == LEVELS[most] and report.steps == (0 if level == 3 else config.steps)
    found = logits_of(model.network)
    assert ladder(copy_task(5), level) == report
    assert torch.equal(logits_of(model.network), found)
    assert ladder(copy_task(5)).text == "tuned"
    tuner.reset()
    assert_base(model)


@CONFIGS
def test_checkpointing_changes_nothing_but_memory(config: TuneConfig) -> None:
    models = [new_model(64, 2, 0) for _ in range(2)]
    saved = [0, 0]
    for i, model in enumerate(models):

        def keep(tensor: Tensor, i: int = i) -> Tensor:
            saved[i] += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            assert tune(model, replace(config, checkpointing=i == 1)).text == "tuned"
    assert torch.equal(logits_of(models[0].network), logits_of(models[1].network))
    assert saved[1] < 0.8 * saved[0]
    assert not checkpoints(models[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have their own rules")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    """48 MiB again and again; glibc by itself gives back everything over 32."""
    InProcessTuner(new_model(64, 2, 0), ALL)
    libc, n_bytes, faults = ctypes.CDLL(None), ctypes.c_size_t(48 * 2**20), []
    libc.malloc.restype = ctypes.c_void_p
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = ctypes.c_void_p(libc.malloc(n_bytes))
        libc.memset(block, 1, n_bytes)
        libc.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert max(faults[1:]) < 1000


@pytest.mark.parametrize("bucket", [1, 64])
def test_padding_is_as_fine_as_before_whatever_lengths_count_as(bucket: int) -> None:
    """A step's examples are counted by the bucket, and then padded less."""
    model, shapes = new_model(64, 2, 0), set()
    config = replace(ALL, tokens_per_step=256, bucket=bucket)
    own = model.network.forward

    def seen(*args: Any, **kwargs: Any) -> Any:
        shapes.add(tuple(kwargs["input_ids"].shape))
        return own(*args, **kwargs)

    model.network.forward = seen  # type: ignore[method-assign]
    assert tune(model, config).text == "tuned"
    assert shapes == {(256 // 64 if bucket == 64 else 256 // 40, 48)}  # of 40 tokens each


def test_the_footprint_follows_the_ladder() -> None:
    model, config = new_model(64, 8, 0), replace(ALL, max_tokens=1000)
    bytes_at = [project_memory(model, GenerateConfig(), gentler_tuning(config, level)).training for level in range(4)]
    fixed = 4 * 4 * sum(parameter.numel() for parameter in model.network.parameters())
    whole, checkpointed, half, none = (each - fixed for each in bytes_at)
    assert whole == 2 * 1024 * 8 * (4 * (8 * 64 + 4 * 192) + 2 * 1024)  # examples, tokens, layers; two heads
    assert checkpointed < whole / 4
    assert half < checkpointed / 2
    assert none == -fixed


def lengths(task: Task, model: LoadedModel, max_tokens: int) -> tuple[int, int]:
    """(tokens, labels' ends) of the example that fits."""
    example = fit_example(task, model.notation, max_tokens)
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
    whole, short = (fit_example(task, model.notation, max_tokens) for max_tokens in (53, 30))
    assert short.ids.tolist() == whole.ids[:27].tolist()


def test_a_long_task_is_tuned_on_what_fits() -> None:
    model = new_model(64, 2, 0)
    config = replace(ALL, max_tokens=30)
    assert {len(example.ids) for example in islice(examples_of(copy_task(5), model, config), 20)} == {27}
    assert tune(model, config, task=copy_task(5)).text == "tuned"


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
