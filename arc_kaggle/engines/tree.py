"""The state of a tree search: rows with their open branches, and the tokens of the next decode step. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.engines.base import Completion
from arc_kaggle.engines.drafts import NO_DRAFT, Draft, Guesses
from arc_kaggle.text.tokens import TokenIds

NOTHING: NDArray[np.int64] = np.array([], dtype=np.int64)
NO_VALUES = np.zeros(0)

WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Tokens of a row in one forward: few shapes. One alone is never fed: on a CPU its attention in bf16 is slow."""


@dataclass(slots=True, eq=False)
class Branch:
    """A prefix that may grow: the prompt's last token and the tokens behind it, ids (n,); the last was not fed yet."""

    ids: TokenIds
    log_probs: NDArray[np.float64]
    """Log-probability in nats of each id but the first, (n - 1,)."""
    slots: NDArray[np.int64] = field(default_factory=lambda: NOTHING)
    """KV cache slots of the first ids, (m,). Token ids without a slot are computed in the next forward pass."""
    draft: Draft = NO_DRAFT
    chain: int = 0
    """The number of the sample that it belongs to."""

    @property
    def nll(self) -> float:
        """Negative log-likelihood in nats."""
        return -float(self.log_probs.sum())

    @property
    def length(self) -> int:
        """Number of tokens behind the prompt."""
        return len(self.ids) - 1

    @property
    def n_unfed(self) -> int:
        return len(self.ids) - len(self.slots)

    def values(self, trust: float) -> NDArray[np.float64]:
        """The chance that a token will have to be fed: certain for those that have not been, less for the draft."""
        chances = np.exp(np.cumsum(np.minimum(self.draft.log_chances, trust)))
        return np.concatenate([np.ones(self.n_unfed), chances])

    def fed(self, slots: NDArray[np.int64]) -> Branch:
        """The branch with further tokens in these slots, some of the draft's; its draft begins after the next one."""
        held = np.concatenate([self.slots, slots])
        n_drafted = len(held) - len(self.ids)
        if n_drafted < 0:
            return Branch(self.ids, self.log_probs, held, self.draft, self.chain)
        ids = np.concatenate([self.ids, self.draft.ids[:n_drafted]])
        return Branch(ids, self.log_probs, held, self.draft.after(n_drafted + 1), self.chain)

    def child(self, n_ids: int, token: int, log_prob: float) -> Branch:
        """The branch that leaves this one behind its first ids with another token."""
        ids, log_probs = np.append(self.ids[:n_ids], token), np.append(self.log_probs[: n_ids - 1], log_prob)
        return Branch(ids, log_probs, self.slots[:n_ids], chain=self.chain)

    def completion(self, ended: bool = False) -> Completion:
        return Completion(self.ids[1:], self.log_probs.astype(np.float32), ended)


@dataclass(slots=True, eq=False)
class Row:
    """One prompt of a batch: its open branches, the ones that grow, and its completions so far."""

    position: int
    prompt: TokenIds
    limit: int
    """Most tokens of a completion."""
    guesses: Guesses
    max_nodes: float = inf
    open: list[Branch] = field(default_factory=list)
    """Branches that the next decode step may feed."""
    grown: list[Branch] = field(default_factory=list)
    """Branches that came of the last step and are not open yet."""
    done: list[Completion] = field(default_factory=list)
    """Completions that ended, that reached the limit, or that were left as they stood."""
    nodes: int = 0
    """Number of prefixes whose followers were looked at."""
    stopped: str = ""

    @property
    def n_longest(self) -> int:
        """Tokens of the prompt and its longest completion."""
        return len(self.prompt) + self.limit

    def start(self, n_chains: int, end_id: int) -> None:
        """Open the root, or as many as there are samples."""
        for chain in range(n_chains):
            self.add(Branch(self.prompt[-1:], NO_VALUES, chain=chain), end_id)
        self.settle()

    @property
    def live(self) -> list[Branch]:
        return [*self.open, *self.grown]

    def settle(self) -> None:
        """Open all branches that have grown."""
        self.open += self.grown
        self.grown = []

    def add(self, branch: Branch, end_id: int) -> bool:
        """Keep a branch; returns whether it may grow and is not a whole completion."""
        ended = branch.length > 0 and int(branch.ids[-1]) == end_id
        if may_grow := not ended and branch.length < self.limit:
            self.grown.append(branch)
        else:
            self.done.append(branch.completion(ended))
        return may_grow

    @property
    def n_wanted(self) -> int:
        """Number of tokens that its branches and their drafts would feed."""
        return sum(branch.n_unfed + len(branch.draft) for branch in self.open)

    def stop(self, reason: str) -> None:
        """Leave all branches as they stand."""
        self.stopped = reason
        self.done += [branch.completion() for branch in self.live]
        self.open, self.grown = [], []


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """The tokens of one branch that one forward computes together: its own, then its draft's."""

    number: int
    """Number of the row in its batch."""
    row: Row
    branch: Branch
    n_tokens: int

    @property
    def ids(self) -> TokenIds:
        """(n_tokens,)."""
        return np.concatenate([self.branch.ids[len(self.branch.slots) :], self.branch.draft.ids])[: self.n_tokens]


def plan(rows: Sequence[Row], room: Sequence[int], step_tokens: int, max_width: int) -> list[Feed]:
    """The tokens that are likeliest to be needed, as many as are worth a forward; `room` is what each row can hold."""
    values = [[branch.values(row.guesses.trust) for branch in row.open] for row in rows]
    # along a branch they fall: where there is one alone they are in order
    falling = [each[0] if len(each) == 1 else -np.sort(-np.concatenate([*each, NO_VALUES])) for each in values]
    width = best_width(falling, step_tokens, max_width)
    return [
        Feed(number, row, branch, n_tokens)
        for number, row in enumerate(rows)
        for branch, n_tokens in zip(row.open, _shares(values[number], min(width, room[number])), strict=True)
        if n_tokens
    ]


def _shares(values: Sequence[NDArray[np.float64]], most: int) -> list[int]:
    """How many of each branch's first tokens are among the `most` likeliest of all."""
    if len(values) == 1:
        return [min(most, len(values[0]))]
    owner = np.repeat(np.arange(len(values)), [len(each) for each in values])
    taken = np.argsort(-np.concatenate([*values, NO_VALUES]), kind="stable")[:most]
    shares: list[int] = np.bincount(owner[taken], minlength=len(values)).tolist()
    return shares


def best_width(values: Sequence[NDArray[np.float64]], step_tokens: int, max_width: int) -> int:
    """The one of WIDTHS that gives most for its cost; `values` are those of each row's tokens, falling.

    A forward costs as much as all of its tokens, padding among them, and `step_tokens` more.
    """
    widths = [width for width in WIDTHS if width <= max_width]
    gains = np.zeros(widths[-1])
    for each in values:
        gains[: len(each)] += each[: len(gains)]
    gained = gains.cumsum()
    return max(widths, key=lambda width: gained[width - 1] / (step_tokens + len(values) * width))


def fitting_width(n_tokens: int) -> int:
    return next(width for width in WIDTHS if width >= n_tokens)
