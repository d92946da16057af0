"""Rules by which something in the grid says what colour another thing takes."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick, some
from arc_kaggle.synth.rules.choosing import copies, shape_of
from arc_kaggle.synth.rules.colours import repainted
from arc_kaggle.synth.rules.scene import blob, patch, patches, place
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid


def draw_grey(rng: Rng, setting: Setting) -> Params:
    return {"grey": setting.other(rng)}


def legend_over(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Columns of two colours in the first two rows, a row of 0, and noise in the upper colours below."""
    height, width = setting.sides(rng, 6)
    n = min(len(setting.palette), width, between(rng, 2, 4))
    uppers = some(rng, setting.palette, n)
    lowers = some(rng, [c for c in range(1, 10) if c not in uppers], n)
    grid = blank(height, width)
    grid[0, :n], grid[1, :n] = uppers, lowers
    colours = np.array((0, *uppers), dtype=np.int8)
    grid[3:] = colours[rng.integers(len(colours), size=(height - 3, width))]
    return grid


@family(legend_over, hardness=0.1)
def legend(grid: Grid) -> Grid:
    """The first two rows say, column by column, which colour becomes which; what is painted below follows."""
    need(grid.shape[0] >= 4 and not grid[2].any())
    change = {int(old): int(new) for old, new in zip(grid[0], grid[1], strict=True) if old}
    need(len(change) == np.count_nonzero(grid[0]) and all(change.values()))
    return np.vstack([grid[:3], repainted(grid[3:], change)])


def header_over(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Colours in the first row, below it cells of one grey colour."""
    height, width = setting.sides(rng, 3)
    grid = blank(height, width)
    grid[0] = [pick(rng, setting.palette) for _ in range(width)]
    grid[1:][rng.random((height - 1, width)) < 0.45] = params["grey"]
    return grid


@family(header_over, draw_grey)
def header_colours(grid: Grid, grey: int) -> Grid:
    """Every grey cell takes the colour that stands in its column's first row."""
    need((grid[1:] == grey).any() and bool((grid[0] > 0).all()))
    return np.where(grid == grey, grid[0], grid)


def grey_with_dots(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Grey objects with one cell in another colour each."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 2, 5)):
        cells = np.where(patch(rng, setting) > 0, params["grey"], 0).astype(np.int8)
        ys, xs = np.nonzero(cells)
        at = between(rng, 0, len(ys) - 1)
        cells[ys[at], xs[at]] = pick(rng, setting.palette)
        place(rng, grid, cells)
    return grid


@family(grey_with_dots, draw_grey, gives="objects", hardness=0.05)
def infect(grid: Grid, grey: int) -> Grid:
    """Every grey object takes the colour of the one cell in it that is not grey."""
    result = grid.copy()
    for thing in things(grid):
        cells = grid[thing.ys, thing.xs]
        dots = cells[cells != grey]
        need(len(dots) == 1)
        result[thing.ys, thing.xs] = dots[0]
    return result


def grey_twins(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Two or three objects of different colours and shapes, and grey copies of them."""
    shapes = [blob(rng, setting) > 0 for _ in range(setting.amount(rng, 2, 3))]
    need(len({(shape.shape, shape.tobytes()) for shape in shapes}) == len(shapes))
    colours = some(rng, setting.palette, len(shapes))
    pictures = [shape * np.int8(colour) for shape, colour in zip(shapes, colours, strict=True)]
    twins = [pick(rng, shapes) * np.int8(params["grey"]) for _ in range(setting.amount(rng, 1, 4))]
    return copies(rng, setting, pictures + twins)


@family(grey_twins, draw_grey, gives="objects", hardness=0.15)
def match_twins(grid: Grid, grey: int) -> Grid:
    """Every grey object takes the colour of the one object that has its shape."""
    colours: dict[object, set[int]] = {}
    for thing in things(grid):
        if thing.colour != grey:
            colours.setdefault(shape_of(grid, thing), set()).add(thing.colour)
    result = grid.copy()
    for thing in things(grid):
        if thing.colour == grey:
            known = colours.get(shape_of(grid, thing), set())
            need(len(known) == 1)
            result[thing.ys, thing.xs] = min(known)
    return result


def between_walls(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Walls along two opposite sides in a colour each, grey cells between them."""
    height, width = setting.sides(rng, 4)
    grid = np.where(rng.random((height, width)) < 0.3, params["grey"], 0).astype(np.int8)
    grid[:, 0], grid[:, -1] = some(rng, setting.palette, 2)
    if width % 2:
        grid[:, width // 2] = 0
    return grid.T if rng.random() < 0.5 else grid


@family(between_walls, draw_grey, gives="sparse", hardness=0.05)
def nearest_wall(grid: Grid, grey: int) -> Grid:
    """Every grey cell takes the colour of the nearer of the two walls."""
    upright = (grid[:, 0] == grid[0, 0]).all() and (grid[:, -1] == grid[0, -1]).all() and grid[0, 0] != grid[0, -1]
    cells = grid if upright else grid.T
    width = cells.shape[1]
    need((cells[:, 0] == cells[0, 0]).all() and (cells[:, -1] == cells[0, -1]).all())
    need(not (width % 2 and (cells[:, width // 2] == grey).any()) and bool((cells == grey).any()))
    near = np.where(np.arange(width) < width / 2, cells[0, 0], cells[0, -1])
    result = np.where(cells == grey, near, cells)
    return result if upright else result.T


def two_coloured(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = patches(rng, setting, params)
    for thing in things(grid):
        pair = some(rng, setting.palette, 2)
        cells = [pick(rng, pair) for _ in thing.ys]
        cells[:2] = pair
        grid[thing.ys, thing.xs] = cells
    return grid


@family(two_coloured, takes="objects", gives="objects", hardness=0.1)
def swap_within(grid: Grid) -> Grid:
    """In every object of two colours they become each other."""
    result = grid.copy()
    for thing in things(grid):
        found = np.unique(grid[thing.ys, thing.xs])
        need(len(found) <= 2)
        result[thing.ys, thing.xs] = found.sum() - grid[thing.ys, thing.xs] if len(found) == 2 else found[0]
    return result
