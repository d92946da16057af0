"""Objects in a grid: connected cells, with their size, box and colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.synth.rules.base import need
from arc_kaggle.tasks.grid import Grid


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """Connected cells: `grid[thing.ys, thing.xs]` are its colours."""

    ys: NDArray[np.intp]
    xs: NDArray[np.intp]
    colour: int
    """The colour of its first cell in reading order."""

    @property
    def size(self) -> int:
        return len(self.ys)

    @property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns that it reaches over."""
        return slice(self.ys.min(), self.ys.max() + 1), slice(self.xs.min(), self.xs.max() + 1)

    def picture(self, grid: Grid) -> Grid:
        """Its cells in their colours, 0 elsewhere in its box."""
        rows, columns = self.box
        picture = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.int8)
        picture[self.ys - rows.start, self.xs - columns.start] = grid[self.ys, self.xs]
        return picture


def things(grid: Grid, by_colour: bool = False, diagonal: bool = True) -> list[Thing]:
    """The objects on background 0, in reading order of their first cells.

    Cells hang together by sides, and by corners where `diagonal`; where `by_colour`, only those of one colour do.
    """
    width = grid.shape[1] + 1  # a column of 0 between a row's end and the next row's beginning
    cells = [0] * width
    for row in grid.tolist():
        cells += [*row, 0]
    cells += [0] * width
    steps = (1, -1, width, -width, *((width + 1, width - 1, 1 - width, -width - 1) if diagonal else ()))
    found = []
    for start in range(width, len(cells) - width):
        if colour := cells[start]:
            members = _flood(cells, start, steps, colour if by_colour else 0)
            ys, xs = np.divmod(np.array(members), width)
            found.append(Thing(ys - 1, xs, colour))
    return found


def _flood(cells: list[int], start: int, steps: tuple[int, ...], colour: int) -> list[int]:
    """Positions that hang together with `start`; they are set to 0. `colour` 0 takes every colour."""
    members, cells[start] = [start], 0
    for at in members:
        for step in steps:
            found = cells[at + step]
            if found and (not colour or found == colour):
                cells[at + step] = 0
                members.append(at + step)
    return members


def colour_counts(grid: Grid) -> dict[int, int]:
    """How many cells each colour but 0 has."""
    counts = np.bincount(grid.ravel(), minlength=10).tolist()
    return {colour: counts[colour] for colour in range(1, 10) if counts[colour]}


def the_most(counts: dict[int, int]) -> int:
    """The key of the largest count. Raises Unfit where two share it, or none is there."""
    ranked = sorted(counts.values(), reverse=True)
    need(ranked and ranked[:1] != ranked[1:2], "nothing stands out")
    return max(counts, key=lambda key: counts[key])


def reached(free: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Free cells that can be reached from seeds by steps to the side over free cells; free seeds included."""
    found, count = seeds & free, 0
    while found.sum() > count:
        count = int(found.sum())
        spread = found.copy()
        spread[1:] |= found[:-1]
        spread[:-1] |= found[1:]
        spread[:, 1:] |= found[:, :-1]
        spread[:, :-1] |= found[:, 1:]
        found = spread & free
    return found


def has_hole(picture: Grid) -> bool:
    """Whether an empty cell of an object's picture cannot be reached from its border over sides."""
    empty = np.pad(picture, 1) == 0
    corner = np.zeros_like(empty)
    corner[0, 0] = True
    return bool((empty & ~reached(empty, corner)).any())
