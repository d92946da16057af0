"""Inputs: noise, points, blobs, boxes and frames on a background of 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arc_kaggle.synth.rules.base import Make, Params, Rng, Setting, Unfit, between, blank, need, pick
from arc_kaggle.tasks.grid import Grid

Shape = Callable[[Rng, Setting], Grid]
"""A small picture of one object, 0 where it is not."""


def noise(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Every cell one of the palette's colours, or also 0."""
    height, width = setting.sides(rng, 2 if setting.longest < 5 else 3)
    colours = np.array(setting.palette if rng.random() < 0.4 else (0, 0, *setting.palette), dtype=np.int8)
    return colours[rng.integers(len(colours), size=(height, width))]


def speckle(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Cells anywhere, up to half of them painted."""
    height, width = setting.sides(rng)
    colours = np.array(setting.palette, dtype=np.int8)
    grid = colours[rng.integers(len(colours), size=(height, width))]
    grid[rng.random((height, width)) > 0.15 + 0.35 * rng.random()] = 0
    need(grid.any())
    return grid


def any_shape(rng: Rng, setting: Setting) -> Grid:
    """A blob, a box, a frame, a single cell."""
    return pick(rng, (blob, blob, box, frame, one_cell))(rng, setting)


def one_cell(rng: Rng, setting: Setting) -> Grid:
    """One cell."""
    return blank(1, 1, pick(rng, setting.palette))


def box(rng: Rng, setting: Setting) -> Grid:
    """A filled rectangle."""
    most = min(6, max(2, setting.longest // 3))
    return blank(between(rng, 1, most), between(rng, 2, most), pick(rng, setting.palette))


def frame(rng: Rng, setting: Setting) -> Grid:
    """A rectangle, hollow most of the time."""
    most = min(7, max(4, setting.longest // 2))
    grid = blank(between(rng, 3, most), between(rng, 3, most), pick(rng, setting.palette))
    if rng.random() < 0.75:
        grid[1:-1, 1:-1] = 0
    return grid


def blob(rng: Rng, setting: Setting) -> Grid:
    """One colour, 2 to 9 cells that hang together by their sides."""
    return pick(rng, setting.palette) * walk(rng, between(rng, 2, 4 + round(5 * setting.difficulty)))


def patch(rng: Rng, setting: Setting) -> Grid:
    """As a blob, with colours that change from cell to cell."""
    cells = walk(rng, between(rng, 3, 4 + round(5 * setting.difficulty)))
    colours = np.array(setting.palette, dtype=np.int8)
    return cells * colours[rng.integers(len(colours), size=cells.shape)]


STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def walk(rng: Rng, n_cells: int) -> Grid:
    """A random polyomino as ones in the smallest array that holds it, at most 4 cells a side."""
    cells = [(0, 0)]
    for _ in range(4 * n_cells):
        (y, x), (dy, dx) = pick(rng, cells), pick(rng, STEPS)
        ys, xs = [y + dy, *(c[0] for c in cells)], [x + dx, *(c[1] for c in cells)]
        if (y + dy, x + dx) not in cells and max(ys) - min(ys) < 4 and max(xs) - min(xs) < 4:
            cells.append((y + dy, x + dx))
        if len(cells) == n_cells:
            break
    y0, x0 = min(y for y, _ in cells), min(x for _, x in cells)
    grid = blank(max(y for y, _ in cells) - y0 + 1, max(x for _, x in cells) - x0 + 1)
    for y, x in cells:
        grid[y - y0, x - x0] = 1
    return grid


def scatter(rng: Rng, setting: Setting, grid: Grid, shape: Shape, low: int, high: int) -> Grid:
    """Paint `low` to `high` objects (fewer than `high` where it is easy) where there is room. Raises Unfit."""
    wanted = setting.amount(rng, low, high)
    placed = sum(place(rng, grid, shape(rng, setting)) for _ in range(wanted))
    need(placed >= min(low, wanted))
    return grid


def place(rng: Rng, grid: Grid, picture: Grid, gap: int = 1, tries: int = 12) -> bool:
    """Paint a picture where it touches nothing, `gap` cells around it included; says whether there was room."""
    spot = free_spot(rng, grid, picture.shape[0], picture.shape[1], gap, tries)
    if spot is None:
        return False
    y, x = spot
    grid[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return True


def free_spot(rng: Rng, grid: Grid, h: int, w: int, gap: int = 1, tries: int = 12) -> tuple[int, int] | None:
    """The upper left corner of a free area, or None."""
    height, width = grid.shape
    if h > height or w > width:
        return None
    for _ in range(tries):
        y, x = between(rng, 0, height - h), between(rng, 0, width - w)
        if not grid[max(0, y - gap) : y + h + gap, max(0, x - gap) : x + w + gap].any():
            return y, x
    return None


def retry(make: Callable[[], Grid], good: Callable[[Grid], bool], tries: int = 20) -> Grid:
    """The first of some grids that is good. Raises Unfit where none is."""
    for _ in range(tries):
        grid = make()
        if good(grid):
            return grid
    raise Unfit


def scattered(shape: Shape, low: int, high: int, side: int) -> Make:
    """Inputs with `low` to `high` objects of some shape, apart from each other, on at least `side` cells a side."""

    def make(rng: Rng, setting: Setting, params: Params) -> Grid:
        height, width = setting.sides(rng, side)
        return scatter(rng, setting, blank(height, width), shape, low, high)

    return make


points = scattered(one_cell, 2, 8, side=4)
blobs = scattered(blob, 2, 6, side=5)
patches = scattered(patch, 2, 5, side=5)
boxes = scattered(box, 2, 5, side=6)
frames = scattered(frame, 1, 4, side=6)
mixed = scattered(any_shape, 2, 6, side=5)


def anything(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise, speckle, or objects: one of them for all inputs of a rule."""
    makes = (noise, speckle, noise, mixed, noise, patches)
    return makes[int(setting.style * len(makes))](rng, setting, params)
