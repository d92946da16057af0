"""Rules of symmetry: turning, mirroring, and completing what is symmetric."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.scene import anything, blobs, speckle
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid


def draw_axis(rng: Rng, setting: Setting) -> Params:
    return {"axis": pick(rng, ("vertical", "horizontal"))}


def draw_mask(rng: Rng, setting: Setting) -> Params:
    return {"mask": setting.other(rng)}


def mirrored(grid: Grid, axis: str) -> Grid:
    """`vertical` turns it upside down, `horizontal` swaps left and right."""
    return grid[::-1] if axis == "vertical" else grid[:, ::-1]


@family(anything, draw_axis, takes="any", gives="same")
def flip(grid: Grid, axis: str) -> Grid:
    """Mirrored."""
    return mirrored(grid, axis)


@family(anything, lambda rng, setting: {"quarters": between(rng, 1, 3)}, takes="any", gives="same")
def turn(grid: Grid, quarters: int) -> Grid:
    """Turned to the left by quarters."""
    return np.rot90(grid, quarters)


@family(anything, lambda rng, setting: {"falling": rng.random() < 0.5}, takes="any", gives="same")
def transpose(grid: Grid, falling: bool) -> Grid:
    """Mirrored at the diagonal that falls to the right, or at the other one."""
    return grid.T if falling else grid[::-1, ::-1].T


def half_filled(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = speckle(rng, setting, params).copy()
    need(min(grid.shape) >= 3)
    half = grid[: (grid.shape[0] + 1) // 2] if params["axis"] == "vertical" else grid[:, : (grid.shape[1] + 1) // 2]
    (half if rng.random() < 0.5 else mirrored(half, params["axis"]))[...] = 0
    return grid


@family(half_filled, draw_axis, takes="sparse", gives="sparse")
def mirror_over(grid: Grid, axis: str) -> Grid:
    """What is painted is painted also on the other side; where both are, the original stays."""
    return np.where(grid > 0, grid, mirrored(grid, axis))


def square(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = speckle(rng, setting, params).copy()
    side = min(grid.shape)
    grid = grid[:side, :side]
    grid[(side + 1) // 2 :] = 0
    grid[:, side // 2 :] = 0
    need(grid.any())
    return grid


@family(square, takes="sparse", gives="sparse")
def pinwheel(grid: Grid) -> Grid:
    """A square's four turns on each other; where several are painted, the one that is turned least to the left."""
    need(grid.shape[0] == grid.shape[1])
    result = grid
    for quarters in (1, 2, 3):
        result = np.where(result > 0, result, np.rot90(grid, quarters))
    return result


def symmetric(rng: Rng, setting: Setting) -> Grid:
    """Mirrored over both axes, without 0."""
    height, width = setting.sides(rng, 4)
    colours = np.array(setting.palette, dtype=np.int8)
    quarter = colours[rng.integers(len(colours), size=((height + 1) // 2, (width + 1) // 2))]
    half = np.vstack([quarter, quarter[::-1][height % 2 :]])
    return np.hstack([half, half[:, ::-1][:, width % 2 :]])


def masked_symmetric(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = symmetric(rng, setting)
    height, width = grid.shape
    h, w = between(rng, 1, max(1, height // 2)), between(rng, 1, max(1, width // 2))
    y, x = between(rng, 0, height - h), between(rng, 0, width - w)
    grid[y : y + h, x : x + w] = params["mask"]
    return grid


@family(masked_symmetric, draw_mask)
def repair_symmetry(grid: Grid, mask: int) -> Grid:
    """A picture that is symmetric over both axes is completed where a mask covers it."""
    result = grid.copy()
    for seen in (grid[:, ::-1], grid[::-1], grid[::-1, ::-1]):
        result = np.where(result == mask, seen, result)
    need((grid == mask).any() and not (result == mask).any())
    return result


@family(masked_symmetric, draw_mask)
def crop_hidden(grid: Grid, mask: int) -> Grid:
    """What a mask covers of a picture that is symmetric over both axes."""
    whole = repair_symmetry.apply(grid, mask)
    ys, xs = np.nonzero(grid == mask)
    return whole[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def with_line(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Points on one side of a line that crosses the grid."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    at = height // 2 + between(rng, -1, 1)
    side = grid[:at] if rng.random() < 0.5 else grid[at + 1 :]
    colours = np.array(setting.palette, dtype=np.int8)
    cells = rng.random(side.shape) < 0.15 + 0.25 * rng.random()
    side[cells] = colours[rng.integers(len(colours), size=int(cells.sum()))]
    need(cells.any())
    grid[at] = params["line"]
    return grid.T if rng.random() < 0.5 else grid


@family(with_line, lambda rng, setting: {"line": setting.other(rng)}, gives="sparse", hardness=0.05)
def mirror_at_line(grid: Grid, line: int) -> Grid:
    """What lies on one side of a line is painted also on the other, as far away, where there is room."""
    upright = (grid == line).all(axis=0).any()
    cells = (grid.T if upright else grid).copy()
    rows = np.flatnonzero((cells == line).all(axis=1))
    need(len(rows) == 1)
    at = int(rows[0])
    reach = min(at, len(cells) - 1 - at)
    near, far = cells[at - reach : at][::-1], cells[at + 1 : at + 1 + reach]  # both from the line outwards
    both = np.where(near > 0, near, far)
    far[...] = np.where(far > 0, far, near)
    near[...] = both
    return cells.T if upright else cells


@family(blobs, draw_axis, takes="objects", gives="objects", hardness=0.05)
def flip_objects(grid: Grid, axis: str) -> Grid:
    """Every object is mirrored in its place."""
    result = np.zeros_like(grid)
    for thing in things(grid):
        picture, box = mirrored(thing.picture(grid), axis), result[thing.box]
        need(not (box[picture > 0]).any())
        box[picture > 0] = picture[picture > 0]
    return result
