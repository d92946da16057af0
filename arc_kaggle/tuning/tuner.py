"""Test-time fine-tuning: a minute of training on one task's own train pairs, seen through many augmentations."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from arc_kaggle.config.adapter import FACTORS_FILE
from arc_kaggle.config.gentleness import UNTUNED_LEVEL, gentler_tuning, steps_to
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.errors import TuneError
from arc_kaggle.models.block_attention import by_blocks
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import collate
from arc_kaggle.models.rotary import turned_at_once
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import digest
from arc_kaggle.system.hardware import is_out_of_memory
from arc_kaggle.system.integers import round_up
from arc_kaggle.system.prefetch import made_ahead
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.tuning.optimizer import Optimizer
from arc_kaggle.tuning.outcome import OUT_OF_MEMORY, TuneReport
from arc_kaggle.tuning.pretrained import merge_in
from arc_kaggle.tuning.saved_weights import check_tuned, describe_origin, save_tuned
from arc_kaggle.tuning.tunable_weights import AllWeights, LoraAdapter, TunableWeights, kept_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PADDED = 16
"""Rows are padded to a multiple of this many tokens: few distinct shapes, for each of which a CPU compiles kernels."""
STEPS_AHEAD = 2
"""Steps whose examples are made while the one before them is taken."""


class Tuner(Protocol):
    """Tunes a model on examples; knows token ids only."""

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        """Start from the base, train on endless `examples`. Where it goes wrong, the model is the base again.

        `level` is one of `config.gentleness`. Where memory runs out the reason is OUT_OF_MEMORY.
        """
        ...

    def reset(self) -> None:
        """Bring the model back to exactly the base."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was tuned last, as a whole. Raises ModelError where the disk fails."""
        ...

    def load(self, folder: Path) -> None:
        """Bring the model to what was saved there, bit for bit.

        Raises ModelError where that is damaged, or was tuned from another model or under other options; the model is
        then what it was.
        """
        ...

    @property
    def n_bytes(self) -> int:
        """Most bytes that `save` writes."""
        ...


def step_batches(examples: Iterator[Example], config: TuneConfig) -> Iterator[list[Example]]:
    """The examples of every step, in the order they come; verdicts, which have one label each, in steps of their own.

    The loss is a mean over labels: one verdict among hundreds of cells would not count.
    """
    batches: dict[bool, list[Example]] = {False: [], True: []}
    for example in examples:
        batch = batches[is_verdict := int((example.labels != NOT_TRAINED).sum()) == 1]
        longest = round_up(max(len(each.ids) for each in (*batch, example)), config.bucket)
        if len(batch) >= config.examples_a_step(longest):
            yield batch
            batches[is_verdict] = batch = []
        batch.append(example)


def tune_within_memory(
    tuner: Tuner,
    make_examples: Callable[[TuneConfig], Iterator[Example]],
    config: TuneConfig,
    seed: int,
    deadline: Deadline,
    level: int = 0,
) -> TuneReport:
    """Tune at a level of gentleness; where memory runs out, from the beginning at the next. The reason names each."""
    until = deadline.earlier(config.max_seconds)
    for each in range(level, UNTUNED_LEVEL):
        report = tuner.tune(make_examples(gentler_tuning(config, each)), seed, until, each)
        if report.tuned or report.reason != OUT_OF_MEMORY:
            return replace(report, reason=", ".join(filter(None, (report.reason, steps_to(each)))))
    tuner.reset()
    return TuneReport(False, f"{OUT_OF_MEMORY}, {steps_to(UNTUNED_LEVEL)}")


@contextmanager
def _checkpointing(network: PreTrainedModel, config: TuneConfig) -> Iterator[None]:
    if not (config.checkpointing and network.supports_gradient_checkpointing):
        yield
        return
    network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        network.gradient_checkpointing_disable()


@contextmanager
def fast_on_a_cpu(network: PreTrainedModel) -> Iterator[None]:
    """Within it attention and rotary positions are computed as a CPU does them fastest."""
    with by_blocks(network), turned_at_once(network):
        yield


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees, up to half a GiB, for the next one.

    It gives large blocks back to the kernel at once, which hands them out again page by page, each filled with zeros:
    a tenth of a step. Elsewhere there is nothing to do.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        for option, n_bytes in ((-3, 2**26), (-1, 2**29)):  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
            mallopt(option, n_bytes)


def origin_of(network: nn.Module, config: TuneConfig, pretrained: Path | None) -> dict[str, Any]:
    """What tuned weights belong to: a base, the adapter that tuning went on from, and the shape of what was tuned."""
    origin = describe_origin(network, {"weights": config.weights, "lora": asdict(config.lora)})
    return {**origin, "adapter": digest(pretrained / FACTORS_FILE)[:16]} if pretrained else origin


class InProcessTuner:
    """Trains the model that the engine answers with, so that nothing is loaded or copied between tasks."""

    def __init__(self, model: LoadedModel, config: TuneConfig, pretrained: Path | None = None) -> None:
        """With a pretrained adapter, that is where every task begins: it is tuned on, or merged where all weights are.

        Raises ModelError for one that does not fit the model.
        """
        self.model, self.config = model, config
        self.origin = origin_of(model.network, config, pretrained)
        keep_freed_memory()
        if pretrained and config.weights == "all":
            merge_in(model.network, pretrained, kept_tokens(model))
        self.weights: TunableWeights = (
            LoraAdapter(model, config.lora, pretrained) if config.weights == "lora" else AllWeights(model)
        )

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        self.weights.reset(seed)
        config, losses = gentler_tuning(self.config, level), list[float]()
        try:
            self._train(examples, losses, config, deadline.earlier(config.max_seconds))
            check_progress(losses)
            cut_off = len(losses) < config.steps
            reason = f"cut off after {len(losses)} steps" if cut_off else ""
            return TuneReport(True, reason, len(losses), losses[0], losses[-1], cut_off=cut_off)
        except TuneError as error:
            reason = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = OUT_OF_MEMORY
        self.reset()  # here, where the error has gone, and with it all that its frames held
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return TuneReport(False, reason, len(losses))

    def _train(self, examples: Iterator[Example], losses: list[float], config: TuneConfig, deadline: Deadline) -> None:
        network = self.model.network
        network.train()
        try:
            with _checkpointing(network, config), fast_on_a_cpu(network), self.weights.training() as parameters:
                optimizer = Optimizer(self.model, parameters, config.optim, config.steps)
                steps = islice(step_batches(examples, config), config.steps)
                collated = (collate(batch, self.model.pad_id, PADDED) for batch in steps)
                with made_ahead(collated, STEPS_AHEAD) as batches:
                    for batch in batches:
                        if deadline.passed:
                            break
                        losses.append(optimizer.step(*batch))
        finally:
            network.zero_grad()
            network.eval()

    def reset(self) -> None:
        self.weights.reset(seed=0)

    def save(self, folder: Path) -> None:
        save_tuned(folder, self.origin, self.weights.save)

    def load(self, folder: Path) -> None:
        check_tuned(folder, self.origin)
        self.weights.load(folder)

    @property
    def n_bytes(self) -> int:
        return self.weights.n_bytes


def check_progress(losses: list[float]) -> None:
    """Raise TuneError for a run without a step, or one that ends clearly worse than it began (it diverged)."""
    if not losses:
        raise TuneError("no time for a single step")
    quarter = max(1, len(losses) // 4)
    begin, end = float(np.mean(losses[:quarter])), float(np.mean(losses[-quarter:]))
    if end > min(1.5 * begin, 3 * losses[0]) + 0.1:  # a run that explodes at once has a bad first quarter, too
        raise TuneError(
            f"diverged: loss {losses[0]:.3f} at first, mean {begin:.3f} in the first quarter, {end:.3f} in the last"
        )
