"""The training examples of one task: its train pairs, seen through random augmentations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType

import numpy as np

from arc_kaggle.config.options import Drop
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.errors import TuneError
from arc_kaggle.tasks.augmentation import sample_augmentation
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.choices import choice_example
from arc_kaggle.text.fit_prompt import fit_training
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.tokenizer_checks import check_example
from arc_kaggle.text.tokens import Example
from arc_kaggle.text.verdicts import verdict_example


def tuning_examples(
    task: Task,
    notation: Notation,
    config: TuneConfig,
    rng: np.random.Generator,
    errors: Mapping[int, Sequence[Grid]] = MappingProxyType({}),
) -> Iterator[Example]:
    """Endless examples of a task's train pairs under sampled augmentations. Test outputs are never looked at.

    The first is one of answers; of the others chance makes `verify_share` examples of verdicts and `pair_share` of the
    rest examples of choices. `errors` are wrong answers of the model to train pairs, by their positions. The notation's
    loss holds where the recipe has none of its own. Raises PromptError where the first would teach nothing.
    """
    visible, max_tokens = task.without_solution(), min(config.max_tokens, notation.token_limit)
    notation = notation if config.loss == "auto" else replace(notation, loss=config.loss)
    for number in count():
        augmentation = sample_augmentation(rng, len(task.train), config.keep_background)
        view = augmentation.apply_task(visible)
        if number and config.verify_share and rng.random() < config.verify_share:
            verdict = verdict_example(view, notation, max_tokens, config.drop, rng)
            if verdict is not None:
                yield verdict
                continue
        if number and config.pair_share and rng.random() < config.pair_share:
            seen = {i: [augmentation.apply(grid) for grid in grids] for i, grids in errors.items()}
            in_view = {place: seen.get(i, []) for place, i in enumerate(augmentation.order or ())}
            choice = choice_example(view, notation, max_tokens, config.drop, rng, in_view)
            if choice is not None:
                yield choice
                continue
        example = fit_example(view, notation, max_tokens, config.drop)
        if number == 0:
            check_example(example, notation, f"task {task.id}")
        yield example


def fit_example(task: Task, notation: Notation, max_tokens: int, drop: Drop = "last") -> Example:
    """The example of as many train pairs as fit. Raises TuneError where no two fit."""
    fitted = fit_training(task, notation, max_tokens, drop) if len(task.train) > 1 else None
    if fitted is None or not fitted.fits:
        raise TuneError(f"task {task.id}: no two of its {len(task.train)} train pairs fit {max_tokens} tokens")
    return fitted.example
