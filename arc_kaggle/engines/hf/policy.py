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

from arc_kaggle.config.answer import Decoding
from arc_kaggle.engines.tree import Feed, Row
from arc_kaggle.text.tokens import TokenIds

SLACK = 1e-3
"""Nats by which the compare over the vocabulary, in single precision, lets more through than the walk then takes."""
ROUNDING = 1e-6
"""How far off a probability in single precision may be at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What may follow each of n tokens; ids and log-probabilities in nats."""

    best: TokenIds
    """The likeliest next token, (n,)."""
    best_log_probs: NDArray[np.float64]
    first: Sequence[int]
    """What may follow token i lies from `first[i]` to `first[i + 1]`, (n + 1,)."""
    ids: Sequence[int]
    log_probs: Sequence[float]

    def followers(self, token: int) -> Iterator[tuple[int, float]]:
        here = slice(self.first[token], self.first[token + 1])
        return zip(self.ids[here], self.log_probs[here], strict=True)


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

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        """`log_probs` (n, vocab) after each token of the feeds, one feed after the other."""
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

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        best, values = _best(log_probs)
        return Reading(best, values, range(len(best) + 1), best.tolist(), values.tolist())

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

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        shares = (log_probs.double() / self.decoding.temperature).softmax(dim=-1).cumsum(dim=-1)  # (n, vocab)
        noise = torch.from_numpy(np.concatenate([self._noise(feed) for feed in feeds])).to(log_probs.device)
        ids = torch.searchsorted(shares, noise[:, None] * shares[:, -1:], right=True)  # (n, 1)
        ids = ids.clamp(max=log_probs.shape[-1] - 1)
        values = log_probs.gather(1, ids).flatten()
        return Reading(*_best(log_probs), range(len(values) + 1), ids.flatten().tolist(), values.tolist())

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

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        best, values = _best(log_probs)
        floors = np.repeat([feed.branch.nll - self.max_nll for feed in feeds], [feed.n_tokens for feed in feeds])
        least = floors - SLACK
        sure = np.flatnonzero(1 - np.exp(values) + ROUNDING < np.exp(least))  # there is too little for any other
        doubt = np.setdiff1d(np.arange(len(best)), sure)
        here, least_here = (torch.from_numpy(each).to(log_probs.device) for each in (doubt, least[doubt]))
        some = log_probs[here]
        at, ids = (some > least_here[:, None]).nonzero(as_tuple=True)
        tokens = np.concatenate([doubt[_ints(at)], sure])
        order = np.argsort(tokens, kind="stable")
        first = np.searchsorted(tokens[order], np.arange(len(best) + 1))
        all_ids = np.concatenate([_ints(ids), best[sure]])[order]
        all_values = np.concatenate([_floats(some[at, ids]), values[sure]])[order]
        return Reading(best, values, first.tolist(), all_ids.tolist(), all_values.tolist())

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

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        n_best = min(self.n_paths, log_probs.shape[-1])
        likeliest, ids = log_probs.topk(n_best, dim=-1)  # (n, n_best)
        first = range(0, ids.numel() + 1, n_best)
        return Reading(*_best(log_probs), first, ids.flatten().tolist(), likeliest.flatten().tolist())

    def prune(self, row: Row) -> None:
        """Once all were fed. What has ended holds its place, so that the rest stops when it falls behind."""
        if row.open:
            return
        row.settle()
        likeliest = sorted([-branch.nll for branch in row.open] + [each.log_prob for each in row.done], reverse=True)
        least = likeliest[: self.n_paths][-1]
        row.done = [each for each in row.done if each.log_prob >= least]
        row.open = [branch for branch in row.open if -branch.nll >= least]


def _best(log_probs: Tensor) -> tuple[TokenIds, NDArray[np.float64]]:
    """The likeliest id for each of log-probabilities (n, vocab), and its own."""
    if log_probs.device.type == "cpu":  # where torch looks at one number at a time
        ids: TokenIds = log_probs.numpy().argmax(axis=-1)
    else:
        ids = _ints(log_probs.argmax(dim=-1))
    return ids, _floats(log_probs.amax(dim=-1))


def _ints(values: Tensor) -> NDArray[np.int64]:
    found: NDArray[np.int64] = values.cpu().numpy()
    return found


def _floats(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.double().cpu().numpy()
    return found
