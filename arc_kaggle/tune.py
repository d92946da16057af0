"""Test-time fine-tuning: a minute of training on one task's own train pairs, seen through many augmentations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from typing import Protocol

import numpy as np

from arc_kaggle.augmentation import sample_augmentation
from arc_kaggle.budget import Deadline
from arc_kaggle.encoder import GridEncoder
from arc_kaggle.errors import TuneError
from arc_kaggle.fit import Drop, fit_training
from arc_kaggle.lora import AllWeights, LoraAdapter, TunableWeights
from arc_kaggle.model import LoadedModel
from arc_kaggle.optim import Optimizer, collate, padded_length
from arc_kaggle.prompt import Loss, PromptFormat, training_prompt
from arc_kaggle.recipe import TuneConfig, TuneReport
from arc_kaggle.task import Task
from arc_kaggle.tokens import Example, Tokenizer, check_example, token_limit


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
    loss: Loss = "outputs_but_first",
) -> Iterator[Example]:
    """Endless examples of a task's train pairs under sampled augmentations. Test outputs are never looked at.

    `loss` is what is trained on where the recipe does not say. Raises PromptError for a first example that would
    teach nothing.
    """
    visible, chosen = task.without_solution(), loss if config.loss == "auto" else config.loss
    max_tokens = min(config.max_tokens, token_limit(tokenizer))
    for number in count():
        view = sample_augmentation(rng, len(task.train), config.keep_background).apply_task(visible)
        example = fit_example(view, encoder, fmt, tokenizer, max_tokens, config.drop, chosen)
        if number == 0:
            check_example(example, tokenizer, fmt, f"task {task.id}")
        yield example


def fit_example(
    task: Task,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    max_tokens: int,
    drop: Drop = "last",
    loss: Loss = "outputs_but_first",
) -> Example:
    """The example of as many train pairs as fit. Raises TuneError where no two fit."""
    prompt = partial(training_prompt, loss=loss)
    fitted = fit_training(task, encoder, fmt, tokenizer, max_tokens, drop, prompt) if len(task.train) > 1 else None
    if fitted is None or not fitted.fits:
        raise TuneError(f"task {task.id}: no two of its {len(task.train)} train pairs fit {max_tokens} tokens")
    return fitted.example


def step_batches(examples: Iterator[Example], config: TuneConfig) -> Iterator[list[Example]]:
    """The examples of every step, in the order they come."""
    batch: list[Example] = []
    for example in examples:
        longest = padded_length(max(len(each.ids) for each in (*batch, example)), config.bucket)
        if len(batch) >= config.examples_a_step(longest):
            yield batch
            batch = []
        batch.append(example)


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
        network.train()
        try:
            with self.weights.training() as parameters:
                optimizer = Optimizer(self.model, parameters, config.optim, config.steps)
                for batch in islice(step_batches(examples, config), config.steps):
                    if deadline.passed:
                        break
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
    begin, end = float(np.mean(losses[:quarter])), float(np.mean(losses[-quarter:]))
    if end > min(1.5 * begin, 3 * losses[0]) + 0.1:  # a run that explodes at once has a bad first quarter, too
        raise TuneError(
            f"diverged: loss {losses[0]:.3f} at first, mean {begin:.3f} in the first quarter, {end:.3f} in the last"
        )
