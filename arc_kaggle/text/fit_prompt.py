"""Prompts that fit a number of tokens: the one place that leaves train pairs out, for training and for inference.

Pairs are left out one by one, by a policy, until the prompt fits. Where the pairs that a policy keeps longest do not
fit, the largest are left out instead, so that whatever can be answered is. Nothing is cut, and nothing loops: a task
of n train pairs is tokenized at most 2n times for each encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arc_kaggle.config.options import Drop
from arc_kaggle.tasks.grid import N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair, Query, Task
from arc_kaggle.text.encoders import GridEncoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt, training_prompt
from arc_kaggle.text.prompt_format import Prompt
from arc_kaggle.text.tokens import Example, tokenize

MakePrompt = Callable[[Task, Notation], Prompt]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A prompt of as many train pairs as fit, tokenized; where none fits, the shortest that there is."""

    example: Example
    dropped: tuple[int, ...]
    """Positions of the train pairs left out, in the order in which they were."""
    encoder: GridEncoder
    """The encoder that the grids are written with, and so the one that reads the answer."""
    fits: bool


def fit_query(
    query: Query, notation: Notation, max_tokens: int, drop: Drop = "last", fallback: GridEncoder | None = None
) -> Fitted:
    """A query's prompt with one train pair or more. A puzzle without any is none, so that is never asked.

    `fallback` is a more compact encoder, given only where the model can read it too. It is used where not even one
    pair fits in the model's own; `Fitted.encoder` then reads the answer.
    """
    notations = [notation, *([notation.in_encoder(fallback)] if fallback else [])]
    trials = (
        (chosen, dropped, query_prompt(Query(shorter, query.index), chosen))
        for chosen in notations
        for dropped, shorter in _shorter(query.task, [query.input], chosen, drop, n_least=1)
    )
    return _first_that_fits(trials, max_tokens)


def fit_training(
    task: Task, notation: Notation, max_tokens: int, drop: Drop = "last", make_prompt: MakePrompt = training_prompt
) -> Fitted:
    """A task's training prompt with two train pairs or more; `least_similar` is to the nearest of its test inputs."""
    asked = [pair.input for pair in task.test]
    trials = (
        (notation, dropped, make_prompt(shorter, notation))
        for dropped, shorter in _shorter(task, asked, notation, drop, n_least=2)
    )
    return _first_that_fits(trials, max_tokens)


def similarity(a: Grid, b: Grid) -> float:
    """How alike two grids are, 0..1: half the overlap of their shapes, half that of their colour histograms.

    Shapes: the smaller height by the larger, times the same of the widths. Histograms: the sum over colours of the
    smaller share of cells. Grids of one shape and the same share of every colour give 1.
    """
    shape = np.minimum(a.shape, b.shape) / np.maximum(a.shape, b.shape)
    shares = [np.bincount(grid.ravel(), minlength=N_COLOURS) / grid.size for grid in (a, b)]  # (colour,) each
    return float((shape.prod() + np.minimum(*shares).sum()) / 2)


def drop_order(train: Sequence[Pair], asked: Sequence[Grid], notation: Notation, drop: Drop) -> list[int]:
    """All positions of train pairs, the first to be left out first."""
    from_last = range(len(train))[::-1]
    if drop == "largest":
        return sorted(from_last, key=lambda i: -_pair_tokens(train[i], notation))
    if drop == "least_similar":
        return sorted(from_last, key=lambda i: max(similarity(train[i].input, grid) for grid in asked))
    return list(from_last)


def _pair_tokens(pair: Pair, notation: Notation) -> int:
    texts = [notation.encoder.encode(grid) for grid in (pair.input, pair.output) if grid is not None]
    return sum(len(notation.ids(text)) for text in texts)


def _shorter(
    task: Task, asked: Sequence[Grid], notation: Notation, drop: Drop, n_least: int
) -> Iterator[tuple[tuple[int, ...], Task]]:
    """(pairs left out, the task without them): none, one and so on until `n_least` are left, by each policy in turn."""
    yield (), task
    for policy in dict.fromkeys((drop, "largest")):
        order = drop_order(task.train, asked, notation, policy)
        for n_dropped in range(1, len(task.train) - n_least + 1):
            dropped = tuple(order[:n_dropped])
            kept = tuple(pair for i, pair in enumerate(task.train) if i not in dropped)
            yield dropped, replace(task, train=kept)


def _first_that_fits(trials: Iterable[tuple[Notation, tuple[int, ...], Prompt]], max_tokens: int) -> Fitted:
    """The first trial that fits, else the shortest of them."""
    tried: list[Fitted] = []
    for notation, dropped, prompt in trials:
        example = tokenize(prompt, notation.tokenizer)
        tried.append(Fitted(example, dropped, notation.encoder, len(example.ids) <= max_tokens))
        if tried[-1].fits:
            return tried[-1]
    return min(tried, key=lambda fitted: len(fitted.example.ids))
