"""Rules of cropping: what is cut out of a grid."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.scene import anything, noise, speckle
from arc_kaggle.tasks.grid import Grid


def content_inside(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A patch of noise on an empty grid."""
    height, width = setting.sides(rng, 4)
    grid = blank(height, width)
    h, w = between(rng, 1, height - 1), between(rng, 2, width - 1)
    y, x = between(rng, 0, height - h), between(rng, 0, width - w)
    colours = np.array((0, *setting.palette, *setting.palette), dtype=np.int8)
    grid[y : y + h, x : x + w] = colours[rng.integers(len(colours), size=(h, w))]
    return grid


@family(content_inside, takes="sparse", gives="any")
def crop_content(grid: Grid) -> Grid:
    """The smallest rectangle that holds everything painted."""
    need(grid.any())
    ys, xs = np.nonzero(grid)
    return grid[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


SIDES = ("top", "bottom", "left", "right")


@family(anything, lambda rng, setting: {"side": pick(rng, SIDES)}, takes="any", gives="same")
def take_half(grid: Grid, side: str) -> Grid:
    """One half; a middle row or column belongs to none."""
    height, width = grid.shape[0] // 2, grid.shape[1] // 2
    halves = {"top": grid[:height], "bottom": grid[-height:], "left": grid[:, :width], "right": grid[:, -width:]}
    need(height > 0 and width > 0)
    return halves[side]


@family(anything, takes="any", gives="same")
def trim(grid: Grid) -> Grid:
    """Without the outer ring."""
    need(min(grid.shape) >= 3)
    return grid[1:-1, 1:-1]


@family(speckle, takes="sparse", gives="any")
def squeeze(grid: Grid) -> Grid:
    """Without the rows and columns in which nothing is painted."""
    need(grid.any())
    return grid[grid.any(axis=1)][:, grid.any(axis=0)]


def stretched(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise in which every row and column stands one to three times."""
    side = max(2, setting.longest // 3)
    colours = np.array(setting.palette, dtype=np.int8)
    grid = colours[rng.integers(len(colours), size=(between(rng, 2, side), between(rng, 2, side)))]
    grid = grid.repeat(1 + rng.integers(3, size=grid.shape[0]), axis=0)
    return grid.repeat(1 + rng.integers(3, size=grid.shape[1]), axis=1)


@family(stretched, takes="any", gives="same")
def drop_repeats(grid: Grid) -> Grid:
    """Rows and then columns that equal the one before them are left out."""
    rows = [True, *(grid[1:] != grid[:-1]).any(axis=1).tolist()]
    grid = grid[rows]
    return grid[:, [True, *(grid[:, 1:] != grid[:, :-1]).any(axis=0).tolist()]]


def noise_and_window(rng: Rng, setting: Setting) -> tuple[Grid, Grid]:
    """Noise, and a view of a rectangle in it, at least 3 cells a side."""
    height, width = setting.sides(rng, 5)
    colours = np.array((0, *setting.palette), dtype=np.int8)
    grid = colours[rng.integers(len(colours), size=(height, width))]
    h, w = between(rng, 3, height), between(rng, 3, width)
    y, x = between(rng, 0, height - h), between(rng, 0, width - w)
    return grid, grid[y : y + h, x : x + w]


def framed(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise with a frame of the given colour in it."""
    grid, window = noise_and_window(rng, setting)
    window[[0, -1]] = params["colour"]
    window[:, [0, -1]] = params["colour"]
    return grid


@family(framed, lambda rng, setting: {"colour": setting.other(rng)}, gives="any")
def crop_frame(grid: Grid, colour: int) -> Grid:
    """What the frame of one colour encloses."""
    ys, xs = np.nonzero(grid == colour)
    need(len(ys) > 0 and ys.max() - ys.min() >= 2 and xs.max() - xs.min() >= 2)
    return grid[ys.min() + 1 : ys.max(), xs.min() + 1 : xs.max()]


def cornered(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise in which four cells of the given colour are the corners of a rectangle."""
    grid, window = noise_and_window(rng, setting)
    window[:: len(window) - 1, :: window.shape[1] - 1] = params["colour"]
    return grid


@family(cornered, lambda rng, setting: {"colour": setting.other(rng)}, gives="any", hardness=0.05)
def crop_corners(grid: Grid, colour: int) -> Grid:
    """What lies between four corners of one colour."""
    need(int((grid == colour).sum()) == 4)
    return crop_frame.apply(grid, colour)


def rare_colour(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise with two or three cells of the given colour that are not far from each other."""
    grid = noise(rng, setting, params)
    grid[grid == params["colour"]] = 0
    height, width = grid.shape
    h, w = between(rng, 1, max(2, height - 2)), between(rng, 2, max(2, width - 2))
    y, x = between(rng, 0, height - min(h, height)), between(rng, 0, width - min(w, width))
    for _ in range(3):
        near = grid[y : y + h, x : x + w]
        near[between(rng, 0, len(near) - 1), between(rng, 0, near.shape[1] - 1)] = params["colour"]
    return grid


@family(rare_colour, lambda rng, setting: {"colour": pick(rng, setting.palette)}, takes="any", gives="any")
def crop_to_colour(grid: Grid, colour: int) -> Grid:
    """The smallest rectangle that holds all cells of one colour."""
    need((grid == colour).any())
    ys, xs = np.nonzero(grid == colour)
    return grid[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
