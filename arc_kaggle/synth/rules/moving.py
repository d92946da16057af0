"""Rules of motion: gravity, shifts, walls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, family, need, pick
from arc_kaggle.synth.rules.scene import anything, blobs, speckle
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid

DIRECTIONS = ("down", "up", "right", "left")


def draw_direction(rng: Rng, setting: Setting) -> Params:
    return {"direction": pick(rng, DIRECTIONS)}


def facing_down(grid: Grid, direction: str) -> Grid:
    """A view of the grid in which the direction is down; applied again, it turns back."""
    return {"down": grid, "up": grid[::-1], "right": grid.T, "left": grid[::-1, ::-1].T}[direction]


@family(speckle, draw_direction, takes="sparse", gives="sparse")
def gravity(grid: Grid, direction: str) -> Grid:
    """Every painted cell falls as far as it can."""
    down = facing_down(grid, direction)
    order = np.argsort(down > 0, axis=0, kind="stable")
    return facing_down(np.take_along_axis(down, order, axis=0), direction)


def draw_falling(rng: Rng, setting: Setting) -> Params:
    need(len(setting.palette) >= 2)
    return {"direction": pick(rng, DIRECTIONS), "colour": pick(rng, setting.palette)}


@family(speckle, draw_falling, takes="sparse", gives="sparse", hardness=0.05)
def gravity_of_colour(grid: Grid, direction: str, colour: int) -> Grid:
    """Cells of one colour fall until they lie on another cell or on the floor; other cells stay."""
    need((grid == colour).any())
    result = facing_down(grid, direction).copy()
    for column in result.T:
        floor = len(column)
        for y in range(len(column) - 1, -1, -1):
            if column[y] == colour:
                floor -= 1
                column[y] = 0
                column[floor] = colour
            elif column[y]:
                floor = y
    return facing_down(result, direction)


@family(blobs, draw_direction, takes="objects", gives="sparse", hardness=0.1)
def gravity_of_objects(grid: Grid, direction: str) -> Grid:
    """Every object falls as a whole until it lies on another one or on the floor."""
    down = facing_down(grid, direction)
    result, found = np.zeros_like(down), things(down)
    owner = np.full(down.shape, -1)
    for i, thing in enumerate(found):
        owner[thing.ys, thing.xs] = i
    falls = _falls(owner, len(found))
    for fall, thing in zip(falls, found, strict=True):
        result[thing.ys + fall, thing.xs] = down[thing.ys, thing.xs]
    return facing_down(result, direction)


def _falls(owner: NDArray[np.intp], n_objects: int) -> list[int]:
    """How far each object falls: as far as the floor, and what lies below it and falls itself, allow."""
    height = len(owner)
    falls, rooms = [height] * n_objects, []
    for column in owner.T:
        ys = np.flatnonzero(column >= 0).tolist()
        for y, below in pairwise([*ys, height]):
            rooms.append((int(column[y]), int(column[below]) if below < height else None, below - y - 1))
    for _ in range(n_objects + 1):
        for upper, lower, room in rooms:
            if lower is None:
                falls[upper] = min(falls[upper], room)
            elif lower != upper:
                falls[upper] = min(falls[upper], falls[lower] + room)
    return falls


def draw_shift(rng: Rng, setting: Setting) -> Params:
    down, right = between(rng, -2, 2), between(rng, -2, 2)
    need(down or right)
    return {"down": down, "right": right}


@family(blobs, draw_shift, takes="sparse", gives="same")
def shift(grid: Grid, down: int, right: int) -> Grid:
    """Everything moves by so many cells; what leaves the grid is lost."""
    result = np.zeros_like(grid)
    height, width = grid.shape
    need(abs(down) < height and abs(right) < width)
    source = grid[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    result[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = source
    return result


@family(anything, draw_shift, takes="any", gives="same")
def roll(grid: Grid, down: int, right: int) -> Grid:
    """Everything moves by so many cells; what leaves the grid comes in again on the other side."""
    return np.roll(grid, (down, right), axis=(0, 1))


@family(speckle, lambda rng, setting: {"step": pick(rng, (1, 2, -1))}, takes="sparse", gives="sparse")
def shear(grid: Grid, step: int) -> Grid:
    """Every row is pushed `step` cells further right than the one above; what leaves comes in again at the left."""
    return np.array([np.roll(row, y * step) for y, row in enumerate(grid)])


def wall_and_points(rng: Rng, setting: Setting, params: Params) -> Grid:
    """A wall that crosses the grid, cells on both sides of it."""
    height, width = setting.sides(rng, 5)
    colours = np.array(setting.palette, dtype=np.int8)
    grid = colours[rng.integers(len(colours), size=(height, width))]
    grid[rng.random((height, width)) > 0.12 + 0.2 * rng.random()] = 0
    grid[between(rng, 1, height - 2)] = params["wall"]
    return grid.T if rng.random() < 0.5 else grid


@family(wall_and_points, lambda rng, setting: {"wall": setting.other(rng)}, gives="sparse")
def attract(grid: Grid, wall: int) -> Grid:
    """From both sides everything falls towards the wall and lies on it."""
    upright = bool((grid == wall).all(axis=0).any())
    cells = grid.T if upright else grid
    rows = np.flatnonzero((cells == wall).all(axis=1))
    need(len(rows) == 1)
    at = int(rows[0])
    above, below = gravity.apply(cells[:at], "down"), gravity.apply(cells[at + 1 :], "up")
    result = np.vstack([above, cells[at : at + 1], below])
    return result.T if upright else result


def draw_halves(rng: Rng, setting: Setting) -> Params:
    return {"axis": pick(rng, ("vertical", "horizontal"))}


@family(anything, draw_halves, takes="any", gives="same")
def swap_halves(grid: Grid, axis: str) -> Grid:
    """Upper and lower, or left and right halves change places; a middle row or column stays."""
    cells = grid if axis == "vertical" else grid.T
    half = len(cells) // 2
    need(half > 0)
    result = np.vstack([cells[-half:], cells[half:-half], cells[:half]])
    return result if axis == "vertical" else result.T


def marked_rows(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Noise; some rows begin and end with the marker."""
    height, width = setting.sides(rng, 4)
    colours = np.array((0, *setting.palette), dtype=np.int8)
    grid = colours[rng.integers(len(colours), size=(height, width))]
    grid[rng.random(height) < 0.4, 0] = params["marker"]
    return grid


@family(marked_rows, lambda rng, setting: {"marker": setting.other(rng)})
def reverse_marked(grid: Grid, marker: int) -> Grid:
    """Rows that begin with the marker are reversed behind it."""
    marked = grid[:, 0] == marker
    need(marked.any())
    result = grid.copy()
    result[marked, 1:] = grid[marked, :0:-1]
    return result
