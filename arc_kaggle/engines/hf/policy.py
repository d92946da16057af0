"""Decoding policies: which tokens may follow a prefix. Greedy, sampling, every token over a threshold, or beams.

A policy turns the log-probabilities behind the tokens of a forward into a `Reading`. Five tokens `P a b c d` are fed;
behind `b` the model holds `x` and `c` for likely enough, behind every other token there is one follower:

    token fed     P       a       b          c       d
    followers     a       b       c, x       d       e
    first         0       1       2          4       5       6

`ids` is then `a b c x d e`, and the followers of token i are `ids[first[i] : first[i + 1]]`. A greedy reading has one
follower for every token, so that `first` is 0 1 2 3 4 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.config.answer import Decoding
from arc_kaggle.engines.drafts import Draft
from arc_kaggle.engines.tree import Feed, Row
from arc_kaggle.text.tokens import TokenIds

SLACK = 1e-3
"""Nats by which the comparison over the vocabulary, in single precision, passes more tokens than are accepted later."""
ROUNDING = 1e-6
"""Largest error of a probability in single precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The tokens that may follow each of n tokens that were fed; log-probabilities are in nats."""

    best: TokenIds
    """The likeliest next token, (n,)."""
    best_log_probs: NDArray[np.float64]
    first: Sequence[int]
    """The followers of token i lie from `first[i]` to `first[i + 1]`, (n + 1,)."""
    ids: Sequence[int]
    log_probs: Sequence[float]

    def followers(self, token: int) -> Iterator[tuple[int, float]]:
        """(id, log-probability) of the followers of a token."""
        here = slice(self.first[token], self.first[token + 1])
        return zip(self.ids[here], self.log_probs[here], strict=True)


class Follower(NamedTuple):
    """A token that may follow the first `n_ids` ids of a branch, with its log-probability in nats."""

    n_ids: int
    token: int
    log_prob: float


@dataclass(frozen=True, slots=True, eq=False)
class BranchReading:
    """The part of a reading that belongs to one branch, by positions in the branch."""

    reading: Reading
    first_row: int
    """Row of the reading that the branch's id 0 has, negative where its first ids were fed in an earlier forward."""

    def followers(self, n_ids: int) -> Iterator[tuple[int, float]]:
        """(id, log-probability) of the tokens that may follow the first `n_ids` ids."""
        return self.reading.followers(self.first_row + n_ids - 1)

    def predicted(self, begin: int, end: int) -> Draft:
        """The likeliest followers of the ids from `begin` to `end`, as a draft."""
        rows = slice(self.first_row + begin, self.first_row + end)
        return Draft(self.reading.best[rows], self.reading.best_log_probs[rows])


class Policy(Protocol):
    """A rule of decoding: which tokens may follow a prefix, and which prefixes are kept."""

    @property
    def max_nll(self) -> float:
        """The NLL in nats at which a prefix is dropped."""
        ...

    @property
    def n_chains(self) -> int:
        """How many branches a row begins with: one for each sample."""
        ...

    @property
    def n_paths(self) -> int:
        """How many completions of a row should fit its KV cache slots at once."""
        ...

    @property
    def takes_drafts(self) -> bool:
        """Whether draft tokens may be fed behind a branch (speculative decoding)."""
        ...

    def read(self, log_probs: Tensor, feeds: Sequence[Feed]) -> Reading:
        """Choose from log-probabilities (n, vocab) behind each token of the feeds, one feed after the other."""
        ...

    def prune(self, row: Row) -> None:
        """Open the branches that have grown, or the best of them."""
        ...


@dataclass(frozen=True, slots=True)
class Greedy:
    """Greedy decoding: the likeliest token always follows."""

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
    """Sampling at a temperature. Each token of each sample has its own number of noise, whatever else is decoded."""

    decoding: Decoding
    noise: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)
    """Uniform noise (tokens,), 0..1, by position of the prompt and number of the sample."""
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
            self.noise[key] = noise_of(self.decoding.seed, feed.branch.chain, feed.row.prompt, feed.row.limit)
        n_before = len(feed.branch.slots)
        return self.noise[key][n_before : n_before + feed.n_tokens]

    def prune(self, row: Row) -> None:
        row.settle()


def noise_of(seed: int, chain: int, prompt: TokenIds, n_tokens: int) -> NDArray[np.float64]:
    """Uniform noise (tokens,), 0..1, of one sample of a prompt."""
    digest = hashlib.sha256(prompt.astype("<i8").tobytes()).digest()
    return np.random.default_rng([seed, chain, int.from_bytes(digest[:8], "little")]).random(n_tokens)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Every token follows that keeps the NLL of the prefix under `max_nll`."""

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
        """Open all branches, the likeliest first, should there not be time or slots for all."""
        row.settle()
        row.open.sort(key=lambda branch: branch.nll)


@dataclass(frozen=True, slots=True)
class Beams:
    """Beam search: the `n_paths` likeliest prefixes are kept, those that have ended among them."""

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
        """Once all beams were fed, keep the best. Ended ones hold their places, so that the search stops."""
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
