"""Batches from examples. What a pass of a step is trained on follows from the seed, the step and the pass alone.

So a stopped run needs no state of its data to go on as if it had never stopped, and any number of processes may make
the batches ahead of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import NOT_TRAINED, Example

Ids = NDArray[np.int64]
T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """Rows of tokens. Where `positions` begin anew at 0 in a row, another example begins, which sees none before it.

    It holds arrays where it is made, and tensors where it is trained on.
    """

    ids: T
    """Token ids, shape (rows, time)."""
    labels: T
    """Labels, shape (rows, time); -100 where a token is not trained."""
    positions: T | None
    """Positions, shape (rows, time); None if every row is one example."""
    n_tokens: int
    """The number of tokens without padding."""


class Examples(Protocol):
    """The protocol of a source of training examples."""

    @property
    def config(self) -> TrainConfig: ...

    def draw(self, rng: np.random.Generator, max_tokens: int) -> Example:
        """Draw one example of at most `max_tokens` tokens. Raises ConfigError if there is none."""
        ...

    def try_draw(self, rng: np.random.Generator, max_tokens: int) -> Example | None:
        """Draw one such example; None if it does not fit."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class BatchStream:
    """All batches of a run: `stream[step, number]` are those of one pass of one step. Steps count from 1."""

    source: Examples
    pad_id: int

    def __getitem__(self, key: tuple[int, int]) -> list[Batch[Ids]]:
        config = self.source.config
        rng, longest = np.random.default_rng([config.seed, 1, *key]), config.longest(key[0])
        n_tokens = config.tokens_per_batch // config.n_passes
        if config.batching == "buckets":
            return fill_buckets(self.source, rng, longest, n_tokens, self.pad_id)
        length = round_up(longest, config.bucket)
        return [fill_rows(self.source, rng, longest, (max(1, n_tokens // length), length), self.pad_id)]


def fill_rows(
    source: Examples, rng: np.random.Generator, longest: int, shape: tuple[int, int], pad_id: int
) -> Batch[Ids]:
    """Pack one batch of full rows by best fit: every example goes where it leaves least room.

    Room below an eighth of a row is left as it is, and so is all room once 20 rules in all had no two pairs that fit.
    """
    rows: list[list[Example]] = [[] for _ in range(shape[0])]
    room = [shape[1]] * shape[0]
    put_example(rows, room, source.draw(rng, longest))
    misses = 0
    while max(room) >= shape[1] // 8 and misses < 20:
        if example := source.try_draw(rng, min(longest, max(room))):
            put_example(rows, room, example)
        else:
            misses += 1
    return pack(rows, shape[1], pad_id)


def put_example(rows: list[list[Example]], room: list[int], example: Example) -> None:
    """Add an example to the row with least room among those that have enough."""
    length = len(example.ids)
    best = min((i for i, left in enumerate(room) if left >= length), key=lambda i: room[i])
    rows[best].append(example)
    room[best] -= length


def pack(rows: Sequence[Sequence[Example]], length: int, pad_id: int) -> Batch[Ids]:
    """Make a batch of packed rows, shape (rows, length). The first token of an example is never a target."""
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    labels = np.full_like(ids, NOT_TRAINED)
    positions = np.zeros_like(ids)
    for row, examples in enumerate(rows):
        begin = 0
        for example in examples:
            end = begin + len(example.ids)
            ids[row, begin:end], positions[row, begin:end] = example.ids, np.arange(end - begin)
            labels[row, begin + 1 : end] = example.labels[1:]
            begin = end
        positions[row, begin:] = np.arange(length - begin)  # padding is a sequence of its own
    return Batch(ids, labels, positions, sum(len(example.ids) for examples in rows for example in examples))


def fill_buckets(
    source: Examples, rng: np.random.Generator, longest: int, n_tokens: int, pad_id: int
) -> list[Batch[Ids]]:
    """Draw batches with one example in each row, about `n_tokens` tokens in all, padding included; or so many examples
    as the config asks for.
    """
    bucket, wanted = source.config.bucket, source.config.examples_per_batch
    examples: list[Example] = []
    while len(examples) < wanted if wanted else sum(round_up(len(e.ids), bucket) for e in examples) < n_tokens:
        examples.append(source.draw(rng, longest))
    groups: dict[int, list[Example]] = {}
    for example in examples:
        groups.setdefault(round_up(len(example.ids), bucket), []).append(example)
    return [one_a_row(groups[length], length, pad_id) for length in sorted(groups)]


def one_a_row(examples: Sequence[Example], length: int, pad_id: int) -> Batch[Ids]:
    return pack([[example] for example in examples], length, pad_id)._replace(positions=None)
