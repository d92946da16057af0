"""Rules of frames: borders, outlines, boxes, lattices."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, fits, need, pick
from arc_kaggle.synth.rules.scene import anything, blobs, free_spot, mixed, scatter
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid


def draw_new(rng: Rng, setting: Setting) -> Params:
    return {"colour": setting.other(rng)}


@family(anything, draw_new, takes="any", gives="sparse")
def draw_border(grid: Grid, colour: int) -> Grid:
    """The outer ring is painted."""
    need(min(grid.shape) >= 3)
    result = grid.copy()
    result[[0, -1]] = colour
    result[:, [0, -1]] = colour
    return result


@family(anything, draw_new, takes="any", gives="same")
def add_border(grid: Grid, colour: int) -> Grid:
    """A ring is added around the grid."""
    return fits(np.pad(grid, 1, constant_values=colour))


@family(mixed, draw_new, takes="sparse", gives="sparse")
def outline(grid: Grid, colour: int) -> Grid:
    """Empty cells that touch a painted one, also by a corner, are painted."""
    padded = np.pad(grid > 0, 1)
    height, width = grid.shape
    near = np.zeros(grid.shape, dtype=bool)
    for dy in range(3):
        for dx in range(3):
            near |= padded[dy : dy + height, dx : dx + width]
    return np.where((grid == 0) & near, colour, grid).astype(np.int8)


@family(blobs, draw_new, takes="objects", gives="objects")
def fill_boxes(grid: Grid, colour: int) -> Grid:
    """In the smallest rectangle around every object the empty cells are painted."""
    result = grid.copy()
    for thing in things(grid):
        cells = result[thing.box]
        cells[cells == 0] = colour
    return result


def twin_corners(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Two cells each of one colour or more that are opposite corners of boxes, which are apart from each other."""
    height, width = setting.sides(rng, 5)
    grid, taken = blank(height, width), blank(height, width)
    most = max(3, setting.longest // 2)
    for colour in setting.palette[: setting.amount(rng, 1, 3)]:
        h, w = between(rng, 3, min(most, height)), between(rng, 3, min(most, width))
        spot = free_spot(rng, taken, h, w)
        if spot is not None:
            rows, columns = slice(spot[0], spot[0] + h), slice(spot[1], spot[1] + w)
            taken[rows, columns] = 1
            box = grid[rows, columns] if rng.random() < 0.5 else grid[rows, columns][::-1]
            box[0, 0] = box[-1, -1] = colour
    return grid


@family(twin_corners, lambda rng, setting: {"filled": rng.random() < 0.3}, gives="objects", hardness=0.05)
def draw_boxes(grid: Grid, filled: bool) -> Grid:
    """Two cells of a colour are corners of a rectangle, which is drawn in this colour: its frame, or all of it."""
    result = grid.copy()
    for colour in np.unique(grid[grid > 0]):
        ys, xs = np.nonzero(grid == colour)
        need(len(ys) == 2)
        box = result[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        if filled:
            box[...] = colour
        else:
            box[[0, -1]] = colour
            box[:, [0, -1]] = colour
    return result


def draw_lattice(rng: Rng, setting: Setting) -> Params:
    return {"every": between(rng, 2, 4), "colour": setting.other(rng)}


@family(blobs, draw_lattice, takes="sparse", gives="same")
def lattice(grid: Grid, every: int, colour: int) -> Grid:
    """Every so many rows and columns, from the first on, a line is drawn behind what is painted."""
    result = np.zeros_like(grid)
    result[::every] = colour
    result[:, ::every] = colour
    return np.where(grid > 0, grid, result)


def odd_boxes(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Filled squares of 3 or 5 cells a side."""

    def odd_box(rng: Rng, setting: Setting) -> Grid:
        side = 5 if setting.longest > 10 and rng.random() < 0.4 else 3
        return blank(side, side, pick(rng, setting.palette))

    height, width = setting.sides(rng, 6)
    return scatter(rng, setting, blank(height, width), odd_box, 1, 5)


@family(odd_boxes, draw_new, gives="objects")
def mark_centres(grid: Grid, colour: int) -> Grid:
    """The middle cell of every object is painted."""
    result = grid.copy()
    for thing in things(grid):
        rows, columns = thing.box
        need((rows.stop - rows.start) % 2 == 1 and (columns.stop - columns.start) % 2 == 1)
        result[(rows.start + rows.stop - 1) // 2, (columns.start + columns.stop - 1) // 2] = colour
    return result
