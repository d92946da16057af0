"""Rules of counting and order: bars, histograms, sorted lines."""

from __future__ import annotations

from collections import Counter

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, fits, need, pick, some
from arc_kaggle.synth.rules.framing import draw_new
from arc_kaggle.synth.rules.scene import blob, boxes, one_cell, place, points, speckle
from arc_kaggle.synth.rules.things import colour_counts, the_most, things
from arc_kaggle.tasks.grid import MAX_SIDE, Grid


def draw_counted(rng: Rng, setting: Setting) -> Params:
    return {"colour": pick(rng, setting.palette)}


def dots(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Single cells, one to eight of them in the given colour."""
    height, width = setting.sides(rng, 4)
    grid = blank(height, width)
    for _ in range(between(rng, 1, 4 + round(4 * setting.difficulty))):
        place(rng, grid, blank(1, 1, params["colour"]), gap=0)
    for _ in range(between(rng, 0, 4)):
        place(rng, grid, one_cell(rng, setting), gap=0)
    return grid


@family(dots, draw_counted, takes="any", gives="end")
def count_cells(grid: Grid, colour: int) -> Grid:
    """A row with as many cells of a colour as the grid has."""
    n = int((grid == colour).sum())
    need(1 <= n <= 12)
    return blank(1, n, colour)


def several(rng: Rng, setting: Setting, params: Params) -> Grid:
    """One to eight blobs, boxes or points."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    for _ in range(between(rng, 1, 3 + round(5 * setting.difficulty))):
        place(rng, grid, pick(rng, (blob, one_cell))(rng, setting))
    return grid


def draw_bar(rng: Rng, setting: Setting) -> Params:
    return {"colour": setting.other(rng), "length": between(rng, 5, 9)}


@family(several, draw_bar, takes="objects", gives="end")
def count_objects(grid: Grid, colour: int, length: int) -> Grid:
    """A row of fixed length in which as many cells are painted, from the left, as the grid has objects."""
    n = len(things(grid))
    need(1 <= n <= length)
    result = blank(1, length)
    result[0, :n] = colour
    return result


@family(several, draw_new, takes="objects", gives="sparse")
def count_diagonal(grid: Grid, colour: int) -> Grid:
    """A square with a painted diagonal of as many cells as the grid has objects."""
    n = len(things(grid))
    need(1 <= n <= 10)
    return np.diag(np.full(n, colour, dtype=np.int8))


@family(speckle, takes="any", gives="sparse", hardness=0.1)
def histogram(grid: Grid) -> Grid:
    """A bar a colour, the longest on top, each as long as the colour has cells."""
    counts = colour_counts(grid)
    need(len(set(counts.values())) == len(counts) >= 2)
    ranked = sorted(counts, key=lambda colour: -counts[colour])
    need(counts[ranked[0]] <= MAX_SIDE)
    result = blank(len(ranked), counts[ranked[0]])
    for y, colour in enumerate(ranked):
        result[y, : counts[colour]] = colour
    return result


@family(dots, draw_counted, takes="any", gives="end", hardness=0.05)
def count_into_square(grid: Grid, colour: int) -> Grid:
    """A 3 x 3 grid in which as many cells are painted, in reading order, as the grid has cells of the colour."""
    n = int((grid == colour).sum())
    need(1 <= n <= 9)
    result = blank(1, 9)
    result[0, :n] = colour
    return result.reshape(3, 3)


def bars(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Bars of different lengths, one a column, that stand on the floor."""
    width = min(setting.side(rng, 3), 9)
    height = max(setting.side(rng, 3), width + 1)
    grid = blank(height, width)
    for x, length in enumerate(some(rng, range(1, height + 1), width)):
        grid[height - length :, x] = pick(rng, setting.palette)
    return grid


def draw_order(rng: Rng, setting: Setting) -> Params:
    return {"falling": rng.random() < 0.5}


@family(bars, draw_order, takes="sparse", gives="sparse")
def sort_columns(grid: Grid, falling: bool) -> Grid:
    """Columns by their number of painted cells, rising to the right or falling."""
    counts = np.count_nonzero(grid, axis=0)
    need(len(np.unique(counts)) == len(counts))
    order = np.argsort(counts)
    return grid[:, order[::-1] if falling else order]


def row_counts(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Rows with different numbers of painted cells, anywhere in the row."""
    height = min(setting.side(rng, 3), 9)
    width = max(setting.side(rng, 3), height)
    grid = blank(height, width)
    for y, n in enumerate(some(rng, range(0, width + 1), height)):
        colour = pick(rng, setting.palette)
        for x in some(rng, range(width), n):
            grid[y, x] = colour
    return grid


@family(row_counts, draw_order, takes="sparse", gives="sparse")
def sort_rows(grid: Grid, falling: bool) -> Grid:
    """Rows by their number of painted cells, rising downwards or falling."""
    return sort_columns.apply(grid.T, falling).T


def spread_boxes(rng: Rng, setting: Setting, params: Params) -> Grid:
    return boxes(rng, setting, params) if rng.random() < 0.5 else points(rng, setting, params)


@family(spread_boxes, takes="objects", gives="end")
def list_colours(grid: Grid) -> Grid:
    """A row of the objects' colours, from left to right."""
    found = sorted(things(grid, by_colour=True), key=lambda thing: int(thing.xs.min()))
    starts = [int(thing.xs.min()) for thing in found]
    need(len(found) >= 2 and len(set(starts)) == len(starts))
    return fits(np.array([[thing.colour for thing in found]], dtype=np.int8))


@family(points, lambda rng, setting: {"side": between(rng, 1, 3)}, takes="objects", gives="end", hardness=0.15)
def colour_of_most_objects(grid: Grid, side: int) -> Grid:
    """A small square in the colour of which there are most objects."""
    counts = Counter(thing.colour for thing in things(grid, by_colour=True))
    need(len(counts) >= 2)
    return blank(side, side, the_most(counts))
