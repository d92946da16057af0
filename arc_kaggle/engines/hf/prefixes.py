"""Shared prefixes: what prompts of a batch begin with alike is prefilled once, and copied to the others' slots.

Views of a task share the system prompt, and the test inputs of one view share all of its train pairs:

    row  prompt            computed    copied
    0    s s s A B x       all         -
    1    s s s A B y       y           s s s A B  of row 0
    2    s s s C D x       C D x       s s s      of row 0
    3    s s s C D y       y           s s s C D  of row 2

Row 0 is the first wave, row 2 and row 1 are the second one, row 3 is the third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from arc_kaggle.text.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `n_tokens` tokens of a row's prompt are those of the row `source`, whose wave is an earlier one."""

    row: int
    source: int
    n_tokens: int


def shared_length(one: TokenIds, other: TokenIds) -> int:
    """Number of tokens that both begin with."""
    n = min(len(one), len(other))
    differ = np.flatnonzero(one[:n] != other[:n])
    return int(differ[0]) if len(differ) else n


def prefix_pays(n_shared: int, n_tokens: int, width: int) -> bool:
    """Whether it saves work to copy the keys and values of so many of a prompt's tokens.

    In a layer of `width` a token costs some 12 width^2 multiplications, and 2 width more for every token it attends to.
    Without a mask that is half of the prompt on average; behind a copied prefix there is a mask, and it is all of it.
    """
    return (n_tokens - n_shared) * (6 * width + n_tokens) < n_tokens * (6 * width + n_tokens / 2)


def waves(prompts: Sequence[TokenIds], pays: Callable[[int, int], bool]) -> Iterator[list[Prefix]]:
    """All rows, each with what it takes over; those of a wave need nothing but earlier waves.

    `pays` is asked with (shared tokens, all tokens) of a prompt. In sorted order a prompt shares most with the one
    before it; it takes that from the first one that has it, so that there are few waves.
    """
    order = sorted(range(len(prompts)), key=lambda row: prompts[row].tolist())
    shared = [0, *(shared_length(prompts[one], prompts[other]) for one, other in pairwise(order))]
    depths: list[int] = []
    by_depth: dict[int, list[Prefix]] = {}
    for place, row in enumerate(order):
        n_tokens, source, depth = shared[place], place, 0
        if n_tokens and pays(n_tokens, len(prompts[row])):
            source -= 1
            while shared[source] >= n_tokens:
                source -= 1
            depth = depths[source] + 1
        depths.append(depth)
        by_depth.setdefault(depth, []).append(Prefix(row, order[source], n_tokens if depth else 0))
    yield from (by_depth[depth] for depth in sorted(by_depth))
