"""Rules of repetition: tiles, scales, fractals."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, family, fits, need, pick
from arc_kaggle.tasks.grid import Grid


def small(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A few cells a side, some of them 0."""
    most = 3 + round(2 * setting.difficulty)
    height, width = between(rng, 2, most), between(rng, 2, most)
    if height == width == 2:
        width = 3
    colours = np.array((0, *setting.palette), dtype=np.int8)
    return colours[rng.integers(len(colours), size=(height, width))]


def draw_tiles(rng: Rng, setting: Setting) -> Params:
    down, across = pick(rng, ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2), (3, 3)))
    return {"down": down, "across": across}


@family(small, draw_tiles, takes="any", gives="same", grows=3)
def tile(grid: Grid, down: int, across: int) -> Grid:
    """Repeated."""
    return fits(np.tile(grid, (down, across)))


@family(small, draw_tiles, takes="any", gives="same", grows=3)
def mirror_tile(grid: Grid, down: int, across: int) -> Grid:
    """Repeated, every second time mirrored, so that neighbours meet in equal cells."""
    row = np.hstack([grid[:, ::-1] if i % 2 else grid for i in range(across)])
    return fits(np.vstack([row[::-1] if i % 2 else row for i in range(down)]))


def small_square(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = small(rng, setting, params)
    return grid[: min(grid.shape), : min(grid.shape)]


@family(small_square, takes="any", gives="same", grows=2)
def four_turns(grid: Grid) -> Grid:
    """A square and its turns as a square of four: turned once more to the right with each step around, clockwise."""
    need(grid.shape[0] == grid.shape[1])
    one, two, three = (np.rot90(grid, -quarters) for quarters in (1, 2, 3))
    return fits(np.block([[grid, one], [three, two]]))


@family(small, lambda rng, setting: {"factor": between(rng, 2, 3)}, takes="any", gives="same", grows=3)
def upscale(grid: Grid, factor: int) -> Grid:
    """Every cell becomes a square."""
    return fits(grid.repeat(factor, axis=0).repeat(factor, axis=1))


@family(small, takes="any", gives="same", grows=4)
def upscale_by_colours(grid: Grid) -> Grid:
    """Every cell becomes a square, as wide as the grid has colours beside 0."""
    n_colours = len(np.unique(grid[grid > 0]))
    need(n_colours >= 1)
    return upscale.apply(grid, n_colours)


def blocky(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid, factor = small(rng, setting, params), params["factor"]
    return fits(grid.repeat(factor, axis=0).repeat(factor, axis=1))


@family(blocky, lambda rng, setting: {"factor": between(rng, 2, 3)})
def downscale(grid: Grid, factor: int) -> Grid:
    """Every square becomes a cell."""
    return grid[::factor, ::factor]


def draw_stamp(rng: Rng, setting: Setting) -> Params:
    return {"inverse": rng.random() < 0.25}


@family(small, draw_stamp, takes="any", gives="sparse", grows=5)
def fractal(grid: Grid, inverse: bool) -> Grid:
    """The grid is its own stamp: a copy for every painted cell (or, inverse, for every other), nothing elsewhere."""
    need(0 < np.count_nonzero(grid) < grid.size)
    return fits(np.kron((grid == 0) if inverse else (grid > 0), grid).astype(np.int8))


@family(small, lambda rng, setting: {"colour": pick(rng, setting.palette)}, takes="any", gives="sparse", grows=5)
def stamp_colour(grid: Grid, colour: int) -> Grid:
    """A copy of the grid for every cell of one colour, nothing elsewhere."""
    need(0 < np.count_nonzero(grid == colour) < grid.size)
    return fits(np.kron(grid == colour, grid).astype(np.int8))
