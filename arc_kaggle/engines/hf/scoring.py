"""Shared-prefix scoring: NLLs of many candidates behind one prompt, each distinct beginning computed once.

The candidates of a prompt become a trie of tokens, which goes through the network under tree attention behind the
prompt's KV cache. Candidates `a b E` and `a c d E` behind a prompt that ends in `P` are five tokens to feed, not seven;
the last token of a candidate is only looked up:

    offset in the trie      0  1  2  3  4
    token fed               P  a  b  c  d
    attends to (path)       -  0  0 1  0 1  0 1 3
    looked up behind it     a  b c  E  d  E

The first candidate is read off at offsets 0 1 2 for ids `a b E`, the second at 0 1 3 4 for `a c d E`. It is a `Twig`
of its own: ids `c d` from offset 3 on, with the path 0 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.engines.base import Nlls
from arc_kaggle.engines.hf.batching import PassCosts
from arc_kaggle.engines.hf.forward import Forward, SlotRange, normalizers
from arc_kaggle.engines.hf.prefixes import shared_length
from arc_kaggle.engines.tree import best_width, fitting_width
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

Offsets = NDArray[np.int64]
"""Positions of tokens in a trie, in the order in which they are fed."""


@dataclass(frozen=True, slots=True, eq=False)
class Twig:
    """The tokens that one candidate adds to a trie: ids (n,) from offset `first` on, behind those of its path (m,)."""

    first: int
    ids: TokenIds
    path: Offsets


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """Log-probabilities to look up, (reads,) each: behind which offset, of which id, for which candidate."""

    at: Offsets
    ids: TokenIds
    owners: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """Candidates as a trie of tokens: the prompt's last token, and all tokens of each candidate but its last."""

    twigs: tuple[Twig, ...]
    n_tokens: int
    reads: Reads


def build_tries(last: int, candidates: Sequence[TokenIds], max_tokens: int) -> list[Trie]:
    """Tries of at most `max_tokens` tokens, or of one candidate. Sorted candidates share most with their neighbours."""
    order = sorted((i for i, ids in enumerate(candidates) if len(ids)), key=lambda i: candidates[i].tolist())
    tries: list[Trie] = []
    twigs: list[Twig] = []
    reads: list[NDArray[np.int64]] = []
    n_tokens, path, before = 0, np.arange(0), np.arange(0)
    for i in order:
        fed = np.concatenate([[last], candidates[i][:-1]])
        n_shared = shared_length(before, fed)
        if twigs and n_tokens + len(fed) - n_shared > max_tokens:
            tries.append(_trie(twigs, n_tokens, reads))
            twigs, reads, n_tokens, n_shared = [], [], 0, 0
        twigs.append(Twig(n_tokens, fed[n_shared:], path[:n_shared]))
        path = np.concatenate([path[:n_shared], np.arange(n_tokens, n_tokens + len(fed) - n_shared)])
        n_tokens, before = n_tokens + len(fed) - n_shared, fed
        reads.append(np.stack([path, candidates[i], np.full(len(path), i)]))
    return [*tries, _trie(twigs, n_tokens, reads)] if twigs else tries


def _trie(twigs: Sequence[Twig], n_tokens: int, reads: Sequence[NDArray[np.int64]]) -> Trie:
    return Trie(tuple(twigs), n_tokens, Reads(*np.concatenate(reads, axis=1)))


@dataclass(slots=True, eq=False)
class ScoredRow:
    """One prompt, the tries of its candidates, and the NLLs of these as far as they are known."""

    position: int
    prompt: TokenIds
    tries: Sequence[Trie]
    nlls: Nlls

    @property
    def n_longest(self) -> int:
        """Tokens of the prompt and, at most, of its longest candidate."""
        return len(self.prompt) + max(
            (len(twig.path) + len(twig.ids) for trie in self.tries for twig in trie.twigs), default=0
        )

    @property
    def n_tokens(self) -> int:
        """Number of tokens of its largest trie."""
        return max((trie.n_tokens for trie in self.tries), default=0)


@dataclass(slots=True, eq=False)
class TrieScoring:
    """The rows of one batch: trie by trie, and window by window of a trie, they go through the network together."""

    forward: Forward
    rows: Sequence[ScoredRow]
    """Those that the forward pass still has."""
    costs: PassCosts
    max_tokens: int
    """Most tokens of all rows in one forward, padding among them."""

    def run(self, deadline: Deadline, bucket: int) -> Iterator[ScoredRow]:
        """Yield all rows at the end; candidates that the deadline came before have NaN."""
        rows = self.rows
        self.forward.prefill([row.prompt for row in rows], bucket, self.costs.most, deadline)
        for number in range(max(len(row.tries) for row in rows)):
            self._score(number, deadline)
        yield from rows

    def _score(self, number: int, deadline: Deadline) -> None:
        """Feed the tries of this number, or what the deadline leaves of them."""
        begin = 0
        while (left := self._left(number, begin)).any() and not deadline.passed:
            width = best_width([np.ones(n) for n in left], self.costs.step, self.max_tokens // len(self.rows))
            tries = [row.tries[number] if n else None for row, n in zip(self.rows, left, strict=True)]
            self._feed(tries, begin, begin + width)
            begin += width
            self._keep(number, begin)
        for place, (row, n_left) in enumerate(zip(self.rows, self._left(number, begin), strict=True)):
            if n_left:
                row.nlls[row.tries[number].reads.owners] = np.nan
            self.forward.memory.release(place, [])

    def _left(self, number: int, begin: int) -> NDArray[np.int64]:
        """Tokens behind offset `begin` of each row's trie of this number, (rows,)."""
        sizes = [row.tries[number].n_tokens if number < len(row.tries) else 0 for row in self.rows]
        left: NDArray[np.int64] = np.maximum(np.array(sizes) - begin, 0)
        return left

    def _keep(self, number: int, begin: int) -> None:
        """Rows that are through ride along, as padding, until they are half of the batch."""
        left = self._left(number, begin)
        kept = [place for place, row in enumerate(self.rows) if left[place] or number + 1 < len(row.tries)]
        if kept and 2 * len(kept) <= len(self.rows):
            self.forward.keep(kept)
            self.rows = [self.rows[place] for place in kept]

    def _feed(self, tries: Sequence[Trie | None], begin: int, end: int) -> None:
        """Feed the tokens of all tries from one offset to another, and look up the tokens behind them."""
        spans = [span for number, trie in enumerate(tries) if trie for span in self._spans(number, trie, begin, end)]
        n_tokens = np.bincount([span.row for span in spans], [len(span.ids) for span in spans], len(tries)).astype(int)
        logits = self.forward.logits(spans, fitting_width(n_tokens.max()))  # (tokens, vocab)
        found = logits, normalizers(logits)
        for row, trie, n_before in zip(self.rows, tries, np.cumsum(n_tokens) - n_tokens, strict=True):
            if trie:
                read_off(row.nlls, trie.reads, *found, begin, end, int(n_before) - begin)

    def _spans(self, number: int, trie: Trie, begin: int, end: int) -> Iterator[SlotRange]:
        start = int(self.forward.memory.starts[number])
        self.forward.memory.reserve(number, max(0, min(end, trie.n_tokens) - begin))
        for twig in trie.twigs:
            first, last = max(begin, twig.first), min(end, twig.first + len(twig.ids))
            if first < last:
                path = np.concatenate([twig.path, np.arange(twig.first, first)])
                ids = twig.ids[first - twig.first : last - twig.first]
                yield SlotRange(number, ids, start + np.arange(first, last), start + path)


def read_off(nlls: Nlls, reads: Reads, logits: Tensor, norms: Tensor, begin: int, end: int, shift: int) -> None:
    """Add the log-probabilities behind offsets `begin` to `end`; offset i is row i + `shift` of logits and norms."""
    here = (begin <= reads.at) & (reads.at < end)
    tokens, ids = (torch.from_numpy(each[here]).to(logits.device) for each in (reads.at + shift, reads.ids))
    np.subtract.at(nlls, reads.owners[here], (logits[tokens, ids] - norms[tokens]).double().cpu().numpy())
