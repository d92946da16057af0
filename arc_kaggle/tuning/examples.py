"""The training examples of one task: its train pairs, seen through random augmentations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from arc_kaggle.config.tune import Drop, Loss, TuneConfig
from arc_kaggle.errors import TuneError
from arc_kaggle.tasks.augmentation import sample_augmentation
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.encoders import GridEncoder
from arc_kaggle.text.fit_prompt import fit_training
from arc_kaggle.text.prompt import PromptFormat, training_prompt
from arc_kaggle.text.tokens import Example, Tokenizer, check_example, token_limit
from arc_kaggle.text.verdicts import verify_example

if TYPE_CHECKING:
    pass


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

    The first is one of answers; of the others chance makes `verify_share` examples of verdicts. `loss` is what is
    trained on where the recipe does not say. Raises PromptError for a first example that would teach nothing.
    """
    visible, chosen = task.without_solution(), loss if config.loss == "auto" else config.loss
    max_tokens = min(config.max_tokens, token_limit(tokenizer))
    for number in count():
        view = sample_augmentation(rng, len(task.train), config.keep_background).apply_task(visible)
        if number and config.verify_share and rng.random() < config.verify_share:
            verdict = verify_example(view, encoder, fmt, tokenizer, max_tokens, config.drop, rng)
            if verdict is not None:
                yield verdict
                continue
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
