"""Policy: what may follow a prefix: the likeliest token, a sample, all over a threshold, or those of the best beams."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.engines.base import Decoding
from arc_kaggle.engines.forward import log_z, precise
from arc_kaggle.engines.tree import Feed, Row
from arc_kaggle.tokens import TokenIds

SLACK = 1e-3
"""Nats by which the compare over the vocabulary, in single precision, lets more through than the walk then takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the logits after each of n tokens say; ids and log-probabilities in nats."""

    best: TokenIds
    """The likeliest next token, (n,)."""
    best_log_probs: NDArray[np.float64]
    first: NDArray[np.int64]
    """What may follow token i lies from `first[i]` to `first[i + 1]`, (n + 1,)."""
    ids: TokenIds
    log_probs: NDArray[np.float64]

    def followers(self, token: int) -> Iterator[tuple[int, float]]:
        here = slice(self.first[token], self.first[token + 1])
        return zip(self.ids[here].tolist(), self.log_probs[here].tolist(), strict=True)


class Policy(Protocol):
    """What may follow, and what of it is kept."""

    @property
    def max_nll(self) -> float:
        """A prefix that reaches it is dropped; in nats."""
        ...

    @property
    def n_chains(self) -> int:
        """Roots of a row."""
        ...

    @property
    def n_paths(self) -> int:
        """Completions whose keys and values a row should have room for."""
        ...

    @property
    def takes_drafts(self) -> bool:
        """Whether more than one token of a branch may be fed before the next choice."""
        ...

    def read(self, logits: Tensor, feeds: Sequence[Feed]) -> Reading:
        """`logits` (n, vocab) after each token of the feeds, one feed after the other."""
        ...

    def prune(self, row: Row) -> None:
        """Open what has grown, or the best of it."""
        ...


@dataclass(frozen=True, slots=True)
class Greedy:
    """Always the likeliest."""

    max_nll: float = inf
    n_chains: int = 1
    n_paths: int = 1
    takes_drafts: bool = True

    def read(self, logits: Tensor, feeds: Sequence[Feed]) -> Reading:
        best, log_probs = _best(logits, log_z(logits))
        return Reading(best, log_probs, np.arange(len(best) + 1), best, log_probs)

    def prune(self, row: Row) -> None:
        row.settle()


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """One number of noise for each token of each sample of a prompt: neither drafts nor other rows can change it."""

    decoding: Decoding
    noise: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)
    """By position of the prompt and number of the sample, (tokens,), 0..1."""
    max_nll: float = inf
    takes_drafts: bool = True

    @property
    def n_chains(self) -> int:
        return self.decoding.best_of

    @property
    def n_paths(self) -> int:
        return self.decoding.best_of

    def read(self, logits: Tensor, feeds: Sequence[Feed]) -> Reading:
        shares = (logits.double() / self.decoding.temperature).softmax(dim=-1).cumsum(dim=-1)  # (n, vocab)
        noise = torch.from_numpy(np.concatenate([self._noise(feed) for feed in feeds])).to(logits.device)
        ids = torch.searchsorted(shares, noise[:, None] * shares[:, -1:], right=True)  # (n, 1)
        ids = ids.clamp(max=logits.shape[-1] - 1)
        z = log_z(logits)  # (n,)
        log_probs = precise(logits.gather(1, ids).squeeze(1)) - z
        return Reading(*_best(logits, z), np.arange(len(logits) + 1), _ints(ids.squeeze(1)), _floats(log_probs))

    def _noise(self, feed: Feed) -> NDArray[np.float64]:
        key = feed.row.position, feed.branch.chain
        if key not in self.noise:
            digest = hashlib.sha256(feed.row.prompt.astype("<i8").tobytes()).digest()
            seeds = [self.decoding.seed, feed.branch.chain, int.from_bytes(digest[:8], "little")]
            self.noise[key] = np.random.default_rng(seeds).random(feed.row.limit)
        n_before = len(feed.branch.slots)
        return self.noise[key][n_before : n_before + feed.n_tokens]

    def prune(self, row: Row) -> None:
        row.settle()


@dataclass(frozen=True, slots=True)
class Threshold:
    """Every token that leaves the prefix under `max_nll`."""

    max_nll: float
    n_chains: int = 1
    n_paths: int = 2
    takes_drafts: bool = True

    def read(self, logits: Tensor, feeds: Sequence[Feed]) -> Reading:
        floors = np.repeat([feed.branch.nll - self.max_nll for feed in feeds], [feed.n_tokens for feed in feeds])
        z = log_z(logits)  # (n,)
        least = torch.from_numpy(floors - SLACK).to(z) + z
        tokens, ids = (logits > least[:, None]).nonzero(as_tuple=True)
        first = np.searchsorted(_ints(tokens), np.arange(len(logits) + 1))
        return Reading(*_best(logits, z), first, _ints(ids), _floats(precise(logits[tokens, ids]) - z[tokens]))

    def prune(self, row: Row) -> None:
        """The likeliest first, should there not be time or room for all."""
        row.settle()
        row.open.sort(key=lambda branch: branch.nll)


@dataclass(frozen=True, slots=True)
class Beams:
    """The `n_paths` likeliest prefixes, those that have ended among them."""

    n_paths: int
    n_chains: int = 1
    max_nll: float = inf
    takes_drafts: bool = False

    def read(self, logits: Tensor, feeds: Sequence[Feed]) -> Reading:
        n_best = min(self.n_paths, logits.shape[-1])
        z = log_z(logits)  # (n,)
        likeliest, ids = logits.topk(n_best, dim=-1)  # (n, n_best)
        log_probs = precise(likeliest) - z[:, None]
        first = np.arange(0, ids.numel() + 1, n_best)
        return Reading(*_best(logits, z), first, _ints(ids.flatten()), _floats(log_probs.flatten()))

    def prune(self, row: Row) -> None:
        """Once all were fed. What has ended holds its place, so that the rest stops when it falls behind."""
        if row.open:
            return
        row.settle()
        likeliest = sorted([-branch.nll for branch in row.open] + [each.log_prob for each in row.done], reverse=True)
        least = likeliest[: self.n_paths][-1]
        row.done = [each for each in row.done if each.log_prob >= least]
        row.open = [branch for branch in row.open if -branch.nll >= least]


def _best(logits: Tensor, z: Tensor) -> tuple[TokenIds, NDArray[np.float64]]:
    """The likeliest id for each of logits (n, vocab), and its log-probability."""
    best = logits.max(dim=-1)
    return _ints(best.indices), _floats(precise(best.values) - z)


def _ints(values: Tensor) -> NDArray[np.int64]:
    found: NDArray[np.int64] = values.cpu().numpy()
    return found


def _floats(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.double().cpu().numpy()
    return found
