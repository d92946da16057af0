"""Grids for a query without an answer: simple rules that hold for all train pairs, then guesses of the right size.

The order, each grid once:
1. what each rule of `_rules` makes of the test input, if it makes all train outputs of their inputs: one grid for all;
   a symmetry or a part of the input, as it is or with colours replaced; scaling; blocks that are symmetries of it;
2. a guess of the size that the train pairs have in common: the input with each colour replaced by what most of its
   cells become where sizes stay, else each cell's commonest colour in the train outputs where they are of one size,
   else their commonest colour;
3. the input, the input with every cell its commonest colour, and the single cells 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np

from arc_kaggle.tasks.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid, as_grid, grid_key, same_grid
from arc_kaggle.tasks.task import Query

Shown = list[tuple[Grid, Grid]]
"""(input, output) of the train pairs."""
Rule = Callable[[Grid], Grid]
"""Makes an output of an input; of an input that does not suit it, something that is not the output."""

SYMMETRIES: list[Rule] = [Augmentation(symmetry).apply for symmetry in range(N_SYMMETRIES)]
MOST_PARTS = 5
"""Most parts a side into which an input is cut, or of which an output is put together."""


def fallback_grids(query: Query) -> list[Grid]:
    """Grids for a query, best first; at least two that differ, so that one is left whichever is there already."""
    shown = _shown(query)
    return _valid([*_by_rules(shown, query.input), *_guesses(shown, query.input), *_last(query.input)])


def proven_grids(query: Query) -> list[Grid]:
    """Those of `fallback_grids` that a rule stands behind which holds for all train pairs; often there is none.

    Where there is one the first is nearly always right: 38 of 39 in arc1:training (benchmarks/fallback.py).
    """
    return _valid(_by_rules(_shown(query), query.input))


def _shown(query: Query) -> Shown:
    return [(pair.input, pair.output) for pair in query.task.train if pair.output is not None]


def _valid(grids: Iterable[Grid]) -> list[Grid]:
    """Each once."""
    fitting = {grid_key(grid): grid for grid in grids if min(grid.shape) > 0 and max(grid.shape) <= MAX_SIDE}
    return [as_grid(grid) for grid in fitting.values()]


def _last(asked: Grid) -> list[Grid]:
    return [asked, np.full_like(asked, commonest(asked)), as_grid([[0]]), as_grid([[1]])]


def commonest(cells: Grid) -> int:
    return int(np.bincount(cells.ravel(), minlength=N_COLOURS).argmax())


def _by_rules(shown: Shown, asked: Grid) -> Iterator[Grid]:
    for rule in _rules(shown):
        if all(same_grid(rule(given), output) for given, output in shown):
            yield rule(asked)


def _rules(shown: Shown) -> Iterator[Rule]:
    """Rules that may hold; whether they do is for the train pairs to say."""
    first_input, first_output = shown[0]
    yield lambda given: first_output
    of_one_size = [rule for rule in (*SYMMETRIES, *_parts()) if rule(first_input).shape == first_output.shape]
    yield from of_one_size
    yield from (_recoloured(rule, shown) for rule in of_one_size)
    down, right = (max(1, out // one) for out, one in zip(first_output.shape, first_input.shape, strict=True))
    yield lambda given: np.kron(given, np.ones((down, right), dtype=np.int8))
    yield lambda given: np.kron((given != 0).astype(np.int8), given)
    yield lambda given: np.kron((given == commonest(given)).astype(np.int8), given)
    if 1 < down * right <= MOST_PARTS**2:
        yield partial(_blocks, turns={at: _turn(at, shown) for at in product(range(down), range(right))})


def _recoloured(rule: Rule, shown: Shown) -> Rule:
    """A rule, then each colour replaced by what it becomes in the train pairs."""
    colours = np.arange(N_COLOURS, dtype=np.int8)
    for given, output in shown:
        made = rule(given)
        if made.shape == output.shape:
            colours[made] = output
    return lambda given: colours[rule(given)]


def _parts() -> Iterator[Rule]:
    """Parts of an input: what stands out of its background or is of its rarest colour, its lines without repetitions,
    every n-th cell, and panels, with lines between them or without.
    """
    yield lambda given: _box(given, given != commonest(given))
    yield lambda given: _box(given, given == min(set(given.ravel()), key=lambda c: (given == c).sum()))
    yield lambda given: _without_repetitions(_without_repetitions(given).T).T
    for n in range(2, MOST_PARTS + 1):
        yield lambda given, n=n: given[::n, ::n]  # type: ignore[misc]
    for gap, down, right in product((0, 1), range(1, MOST_PARTS + 1), range(1, MOST_PARTS + 1)):
        for at in product(range(down), range(right)) if down * right > 1 else ():
            yield partial(_panel, gap=gap, n=(down, right), at=at)


def _box(given: Grid, marked: np.ndarray) -> Grid:
    """The smallest part that holds all marked cells."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    return given[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else given


def _without_repetitions(given: Grid) -> Grid:
    """Rows that are not equal to the one above."""
    return given[np.r_[True, (given[1:] != given[:-1]).any(axis=1)]]


def _panel(given: Grid, gap: int, n: tuple[int, int], at: tuple[int, int]) -> Grid:
    """One of n[0] x n[1] panels of equal size with `gap` lines between them; the input where that does not go."""
    sides = [(side - gap * (count - 1)) // count for side, count in zip(given.shape, n, strict=True)]
    if any(
        side < 1 or side * count + gap * (count - 1) != whole
        for side, count, whole in zip(sides, n, given.shape, strict=True)
    ):
        return given
    top, left = (place * (side + gap) for place, side in zip(at, sides, strict=True))
    return given[top : top + sides[0], left : left + sides[1]]


def _turn(at: tuple[int, int], shown: Shown) -> Rule:
    """The symmetry of the input that a block of the output is in all train pairs; else nothing but background."""
    blocks = [(g, o[at[0] * g.shape[0] :, at[1] * g.shape[1] :][: g.shape[0], : g.shape[1]]) for g, o in shown]
    fitting = (turn for turn in SYMMETRIES if all(same_grid(turn(given), block) for given, block in blocks))
    return next(fitting, np.zeros_like)


def _blocks(given: Grid, turns: dict[tuple[int, int], Rule]) -> Grid:
    """An output of blocks, each of them a symmetry of the input."""
    down, right = max(turns)
    blocks = [[turns[i, j](given) for j in range(right + 1)] for i in range(down + 1)]
    return np.block(blocks) if all(block.shape == given.shape for row in blocks for block in row) else given


def _guesses(shown: Shown, asked: Grid) -> Iterator[Grid]:
    sizes = {output.shape for _, output in shown}
    colour = commonest(np.concatenate([output.ravel() for _, output in shown]))
    if all(given.shape == output.shape for given, output in shown):
        yield _mostly_recoloured(shown, asked)
        yield asked
    if len(sizes) == 1:
        layers = np.stack([output for _, output in shown])
        counts = np.stack([(layers == each).sum(axis=0) for each in range(N_COLOURS)])
        yield counts.argmax(axis=0).astype(np.int8)
    ratios = {tuple(Fraction(o, g) for o, g in zip(output.shape, given.shape, strict=True)) for given, output in shown}
    if len(ratios) == 1:
        height, width = (int(ratio * side) for ratio, side in zip(ratios.pop(), asked.shape, strict=True))
        yield np.full((height, width), colour, dtype=np.int8)


def _mostly_recoloured(shown: Shown, asked: Grid) -> Grid:
    """Each colour replaced by what most of its cells become in the train pairs."""
    counts = np.zeros((N_COLOURS, N_COLOURS), dtype=int)
    for given, output in shown:
        np.add.at(counts, (given, output), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), np.arange(N_COLOURS)).astype(np.int8)[asked]
