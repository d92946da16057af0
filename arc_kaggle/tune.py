"""Test-time fine-tuning: a minute of training on one task's own train pairs, seen through many augmentations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Protocol

import numpy as np

from arc_kaggle.augmentation import sample_augmentation
from arc_kaggle.budget import Deadline
from arc_kaggle.encoder import GridEncoder
from arc_kaggle.errors import TuneError
from arc_kaggle.lora import AllWeights, LoraAdapter, TunableWeights
from arc_kaggle.model import LoadedModel
from arc_kaggle.optim import Optimizer, collate
from arc_kaggle.prompt import PromptFormat, training_prompt
from arc_kaggle.recipe import TuneConfig, TuneReport
from arc_kaggle.task import Task
from arc_kaggle.tokens import Example, Tokenizer, tokenize


class Tuner(Protocol):
    """Tunes a model on examples; knows token ids only."""

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline) -> TuneReport:
        """Start from the base, train on endless `examples`. Where it goes wrong, the model is the base again."""
        ...

    def reset(self) -> None:
        """Bring the model back to exactly the base."""
        ...


def tuning_examples(
    task: Task,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    config: TuneConfig,
    rng: np.random.Generator,
) -> Iterator[Example]:
    """Endless examples of a task's train pairs under sampled augmentations. Test outputs are never looked at."""
    visible = task.without_solution()
    while True:
        view = sample_augmentation(rng, len(task.train), config.keep_background).apply_task(visible)
        yield fit_example(view, encoder, fmt, tokenizer, config.max_tokens)


def fit_example(task: Task, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer, max_tokens: int) -> Example:
    """The example of as many train pairs as fit, the last left out first. Raises TuneError where two do not fit."""
    for n_pairs in range(len(task.train), 1, -1):
        example = tokenize(training_prompt(replace(task, train=task.train[:n_pairs]), encoder, fmt), tokenizer)
        if len(example.ids) <= max_tokens:
            return example
    raise TuneError(f"task {task.id}: no two of its {len(task.train)} train pairs fit {max_tokens} tokens")


class InProcessTuner:
    """Trains the model that the engine answers with, so that nothing is loaded or copied between tasks."""

    def __init__(self, model: LoadedModel, config: TuneConfig) -> None:
        self.model, self.config = model, config
        self.weights: TunableWeights = (
            LoraAdapter(model, config.lora) if config.weights == "lora" else AllWeights(model)
        )

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline) -> TuneReport:
        self.weights.reset(seed)
        losses: list[float] = []
        try:
            self._train(examples, losses, deadline.earlier(self.config.max_seconds))
            check_progress(losses)
        except TuneError as error:
            self.reset()
            return TuneReport(f"base: {error}", len(losses))
        cut = f" (cut off after {len(losses)} steps)" if len(losses) < self.config.steps else ""
        return TuneReport(f"tuned{cut}", len(losses), losses[0], losses[-1])

    def _train(self, examples: Iterator[Example], losses: list[float], deadline: Deadline) -> None:
        config, network = self.config, self.model.network
        optimizer = Optimizer(self.model, self.weights.parameters, config.optim, config.steps)
        network.train()
        try:
            for _ in range(config.steps):
                if deadline.passed:
                    break
                batch = list(islice(examples, config.batch_size))
                losses.append(optimizer.step(*collate(batch, self.model.pad_id, config.bucket)))
        finally:
            network.eval()

    def reset(self) -> None:
        self.weights.reset(seed=0)


def check_progress(losses: list[float]) -> None:
    """Raise TuneError for a run without a step, or one that ends clearly worse than it began (it diverged)."""
    if not losses:
        raise TuneError("no time for a single step")
    quarter = max(1, len(losses) // 4)
    begin, end = np.mean(losses[:quarter]), np.mean(losses[-quarter:])
    if end > 1.5 * begin + 0.1:
        raise TuneError(f"diverged: mean loss {begin:.3f} in the first quarter, {end:.3f} in the last")
