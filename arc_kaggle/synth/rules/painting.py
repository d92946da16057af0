"""Rules that paint or wipe out cells and objects by what they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick, some
from arc_kaggle.synth.rules.filling import draw_parities, ring
from arc_kaggle.synth.rules.framing import draw_new
from arc_kaggle.synth.rules.scene import blobs, boxes, frames, mixed, place, speckle
from arc_kaggle.synth.rules.things import has_hole, things
from arc_kaggle.tasks.grid import Grid


def draw_checks(rng: Rng, setting: Setting) -> Params:
    even, odd = setting.others(rng, 2)
    return {"even": even, "odd": odd}


@family(blobs, draw_checks, takes="sparse", gives="sparse", hardness=0.05)
def checkers(grid: Grid, even: int, odd: int) -> Grid:
    """What is painted turns to a chess board's pattern: one colour where row + column is even, another where odd."""
    parity = np.indices(grid.shape).sum(axis=0) % 2
    return np.where(grid > 0, np.where(parity, odd, even), 0).astype(np.int8)


def neighbours(mask: NDArray[np.bool_]) -> NDArray[np.int8]:
    """How many of the four cells beside are marked."""
    padded = np.pad(mask, 1).astype(np.int8)
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]


def draw_count(rng: Rng, setting: Setting) -> Params:
    return {"count": between(rng, 0, 3), "colour": setting.other(rng)}


@family(speckle, draw_count, takes="sparse", gives="sparse")
def paint_by_neighbours(grid: Grid, count: int, colour: int) -> Grid:
    """Painted cells with exactly so many painted cells beside them are painted."""
    return np.where((grid > 0) & (neighbours(grid > 0) == count), colour, grid).astype(np.int8)


def noisy_boxes(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Filled rectangles, and single cells that touch nothing."""
    grid = boxes(rng, setting, params)
    for _ in range(setting.amount(rng, 2, 8)):
        place(rng, grid, blank(1, 1, pick(rng, setting.palette)), tries=4)
    return grid


@family(noisy_boxes, takes="objects", gives="objects")
def denoise(grid: Grid) -> Grid:
    """Painted cells that touch no other, not even by a corner, are emptied."""
    result = grid.copy()
    found = things(grid)
    need(any(thing.size > 1 for thing in found))
    for thing in found:
        if thing.size == 1:
            result[thing.ys, thing.xs] = 0
    return result


def draw_sizes(rng: Rng, setting: Setting) -> Params:
    one, two, more = setting.others(rng, 3)
    return {"one": one, "two": two, "more": more}


def tiny_blobs(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Objects of one to four cells in one colour."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 3, 8)):
        bar = blank(1, between(rng, 1, 4), setting.palette[0])
        place(rng, grid, bar if rng.random() < 0.5 else bar.T)
    return grid


@family(tiny_blobs, draw_sizes, takes="objects", gives="objects")
def paint_by_size(grid: Grid, one: int, two: int, more: int) -> Grid:
    """Objects are painted by their number of cells: one, two, or more."""
    result = grid.copy()
    for thing in things(grid):
        result[thing.ys, thing.xs] = (one, two, more)[min(thing.size, 3) - 1]
    return result


def draw_holed(rng: Rng, setting: Setting) -> Params:
    holed, whole = setting.others(rng, 2)
    return {"holed": holed, "whole": whole}


def hollow_or_not(rng: Rng, setting: Setting, params: Params) -> Grid:
    return frames(rng, setting, params) if rng.random() < 0.5 else mixed(rng, setting, params)


@family(hollow_or_not, draw_holed, takes="objects", gives="objects", hardness=0.1)
def paint_by_holes(grid: Grid, holed: int, whole: int) -> Grid:
    """Objects that enclose an empty cell get one colour, all others another."""
    result = grid.copy()
    for thing in things(grid):
        result[thing.ys, thing.xs] = holed if has_hole(thing.picture(grid)) else whole
    return result


@family(blobs, draw_new, takes="objects", gives="objects")
def paint_touching(grid: Grid, colour: int) -> Grid:
    """Objects that touch the outer ring are painted."""
    result = grid.copy()
    for thing in things(grid):
        if ring(grid)[thing.ys, thing.xs].any():
            result[thing.ys, thing.xs] = colour
    need((result == grid)[grid > 0].any())
    return result


@family(blobs, draw_parities, takes="objects", gives="objects", hardness=0.15)
def paint_by_parity(grid: Grid, even: int, odd: int) -> Grid:
    """Every object is painted: in one colour where it has an even number of cells, in another where odd."""
    result = grid.copy()
    for thing in things(grid):
        result[thing.ys, thing.xs] = odd if thing.size % 2 else even
    return result


def plain_bars(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Bars of different lengths and one colour with empty columns between them."""
    n = between(rng, 3, 3 + round(3 * setting.difficulty))
    height = max(setting.side(rng, 4), n)
    grid = blank(height, 2 * n - 1)
    for x, length in enumerate(some(rng, range(1, height + 1), n)):
        grid[height - length :, 2 * x] = setting.palette[0]
    return grid


def draw_ranks(rng: Rng, setting: Setting) -> Params:
    longest, shortest = setting.others(rng, 2)
    return {"longest": longest, "shortest": shortest}


@family(plain_bars, draw_ranks, takes="objects", gives="objects", hardness=0.05)
def paint_extremes(grid: Grid, longest: int, shortest: int) -> Grid:
    """The object with most cells and the one with fewest are painted, each in its colour."""
    found = sorted(things(grid), key=lambda thing: thing.size)
    need(len(found) >= 3 and found[0].size < found[1].size and found[-2].size < found[-1].size)
    result = grid.copy()
    result[found[0].ys, found[0].xs] = shortest
    result[found[-1].ys, found[-1].xs] = longest
    return result


@family(plain_bars, draw_new, takes="objects", gives="objects")
def paint_alternate(grid: Grid, colour: int) -> Grid:
    """Every second object, counted in reading order of the columns they begin in, is painted."""
    found = sorted(things(grid), key=lambda thing: int(thing.xs.min()))
    starts = [int(thing.xs.min()) for thing in found]
    need(len(found) >= 2 and len(set(starts)) == len(starts))
    result = grid.copy()
    for thing in found[1::2]:
        result[thing.ys, thing.xs] = colour
    return result
