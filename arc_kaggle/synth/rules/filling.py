"""Rules of filling: enclosed areas, floods, rims, gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.framing import draw_new
from arc_kaggle.synth.rules.scene import frames, place, scatter
from arc_kaggle.synth.rules.things import reached, things
from arc_kaggle.tasks.grid import Grid


def ring(grid: Grid) -> NDArray[np.bool_]:
    """Whether a cell belongs to the outer ring."""
    mask = np.ones(grid.shape, dtype=bool)
    mask[1:-1, 1:-1] = False
    return mask


def loops(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Hollow rectangles, some with a gap."""
    grid = frames(rng, setting, params).copy()
    found = things(grid)
    for thing in found[1:] if rng.random() < 0.5 else found[:-1]:
        at = between(rng, 0, thing.size - 1)
        if rng.random() < 0.4:
            grid[thing.ys[at], thing.xs[at]] = 0
    return grid


@family(loops, draw_new, takes="sparse", gives="objects")
def fill_enclosed(grid: Grid, colour: int) -> Grid:
    """Empty cells from which no way over sides leads to the outer ring are painted."""
    outside = reached(grid == 0, ring(grid))
    return np.where((grid == 0) & ~outside, colour, grid).astype(np.int8)


@family(loops, draw_new, takes="sparse", gives="sparse")
def fill_outside(grid: Grid, colour: int) -> Grid:
    """Empty cells from which a way over sides leads to the outer ring are painted."""
    outside = reached(grid == 0, ring(grid))
    need(not outside.all() and bool(((grid == 0) & ~outside).any()))
    return np.where(outside, colour, grid).astype(np.int8)


def draw_parities(rng: Rng, setting: Setting) -> Params:
    even, odd = setting.others(rng, 2)
    return {"even": even, "odd": odd}


def small_loops(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Frames around 1 to 4 empty cells."""

    def loop(rng: Rng, setting: Setting) -> Grid:
        h, w = pick(rng, ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 1)))
        grid = blank(h + 2, w + 2, pick(rng, setting.palette))
        grid[1:-1, 1:-1] = 0
        return grid

    height, width = setting.sides(rng, 8)
    return scatter(rng, setting, blank(height, width), loop, 2, 5)


@family(small_loops, draw_parities, takes="sparse", gives="sparse", hardness=0.15)
def fill_by_size(grid: Grid, even: int, odd: int) -> Grid:
    """Enclosed areas are painted: in one colour where they have an even number of cells, in another where odd."""
    enclosed = (grid == 0) & ~reached(grid == 0, ring(grid))
    result = grid.copy()
    for area in things(enclosed.astype(np.int8), diagonal=False):
        result[area.ys, area.xs] = odd if area.size % 2 else even
    return result


def rooms(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Walls that cross the grid, some with a door, and single seeds."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    wall = setting.palette[0]
    for cells in (grid, grid.T):
        for at in range(between(rng, 1, 4), len(cells) - 1, between(rng, 3, 5)):
            cells[at] = wall
            if rng.random() < 0.3:
                cells[at, between(rng, 0, cells.shape[1] - 1)] = 0
    for _ in range(setting.amount(rng, 1, 4)):
        place(rng, grid, blank(1, 1, params["seed"]), gap=0)
    return grid


@family(rooms, lambda rng, setting: {"seed": setting.other(rng)}, gives="sparse", hardness=0.05)
def flood(grid: Grid, seed: int) -> Grid:
    """The seeds' colour spreads over sides to all empty cells that it can reach."""
    need((grid == seed).any())
    return np.where(reached((grid == 0) | (grid == seed), grid == seed), np.int8(seed), grid)


def inner(grid: Grid) -> NDArray[np.bool_]:
    """Whether a cell and the four beside it have one colour, which is not 0; cells of the outer ring never do."""
    mask = np.zeros(grid.shape, dtype=bool)
    centre = grid[1:-1, 1:-1]
    beside = (grid[:-2, 1:-1], grid[2:, 1:-1], grid[1:-1, :-2], grid[1:-1, 2:])
    mask[1:-1, 1:-1] = (centre > 0) & np.logical_and.reduce([centre == other for other in beside])
    return mask


def solid(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Filled rectangles of at least 3 cells a side."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    most = max(3, setting.longest // 2)
    for _ in range(setting.amount(rng, 1, 4)):
        place(rng, grid, blank(between(rng, 3, most), between(rng, 3, most), pick(rng, setting.palette)))
    return grid


@family(solid, takes="objects", gives="objects")
def hollow(grid: Grid) -> Grid:
    """Cells whose four neighbours have their colour are emptied."""
    need(inner(grid).any())
    return np.where(inner(grid), 0, grid).astype(np.int8)


@family(solid, draw_new, takes="objects", gives="objects")
def paint_inner(grid: Grid, colour: int) -> Grid:
    """Cells whose four neighbours have their colour are painted."""
    need(inner(grid).any())
    return np.where(inner(grid), colour, grid).astype(np.int8)


@family(solid, draw_new, takes="objects", gives="objects")
def paint_rim(grid: Grid, colour: int) -> Grid:
    """Painted cells with a neighbour of another colour, or at the grid's edge, are painted."""
    need(inner(grid).any())
    return np.where((grid > 0) & ~inner(grid), colour, grid).astype(np.int8)


def gapped(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Pairs of equal cells with one empty cell between them, and single cells."""

    def twins(rng: Rng, setting: Setting) -> Grid:
        grid = blank(1, 3)
        grid[0, ::2] = pick(rng, setting.palette)
        return pick(rng, (grid, grid, grid.T, grid.T, grid[:, :1]))

    height, width = setting.sides(rng, 4)
    return scatter(rng, setting, blank(height, width), twins, 1, 7)


@family(gapped, draw_new, takes="sparse", gives="sparse")
def bridge(grid: Grid, colour: int) -> Grid:
    """Empty cells between two cells of one colour, left and right or above and below, are painted."""
    padded = np.pad(grid, 1)
    up, down, left, right = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    gap = (grid == 0) & (((up == down) & (up > 0)) | ((left == right) & (left > 0)))
    return np.where(gap, colour, grid).astype(np.int8)
