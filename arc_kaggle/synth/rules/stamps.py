"""Rules of stamps: what is painted around things, or once more elsewhere."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.framing import draw_new
from arc_kaggle.synth.rules.lines import few_points
from arc_kaggle.synth.rules.moving import draw_direction, facing_down
from arc_kaggle.synth.rules.scene import blob, one_cell, patch, place, points
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid


def draw_decoration(rng: Rng, setting: Setting) -> Params:
    need(len(setting.palette) >= 2)
    plus, cross = setting.others(rng, 2)
    return {"one": setting.palette[0], "plus": plus, "two": setting.palette[1], "cross": cross}


def decorated_points(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Points with two empty cells between them."""
    height, width = setting.sides(rng, 5)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 2, 7)):
        y, x = between(rng, 0, height - 1), between(rng, 0, width - 1)
        if not grid[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].any():
            grid[y, x] = pick(rng, setting.palette[:2])
    return grid


@family(decorated_points, draw_decoration, gives="sparse")
def decorate(grid: Grid, one: int, plus: int, two: int, cross: int) -> Grid:
    """Cells of one colour get a plus around them, those of another a cross of corners; only empty cells are painted."""
    need(grid.any())
    padded = np.pad(grid, 1)
    height, width = grid.shape
    result = grid.copy()
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            seen = padded[dy : dy + height, dx : dx + width]
            wanted, colour = (two, cross) if (dy + dx) % 2 == 0 else (one, plus)
            result[(result == 0) & (seen == wanted)] = colour
    return result


@family(points, takes="sparse", gives="sparse")
def grow(grid: Grid) -> Grid:
    """Every painted cell paints the empty cells beside it in its colour."""
    padded = np.pad(grid, 1)
    beside = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    most = beside.max(axis=0)
    need(not ((grid == 0) & (beside > 0) & (beside != most)).any())
    return np.where(grid > 0, grid, most)


@family(few_points, draw_new, gives="sparse", hardness=0.05)
def ripples(grid: Grid, colour: int) -> Grid:
    """Rings around the only painted cell, up to the border, in another colour and its own in turn."""
    need(np.count_nonzero(grid) == 1)
    (y,), (x,) = np.nonzero(grid)
    ys, xs = np.indices(grid.shape)
    return np.where(np.maximum(abs(ys - y), abs(xs - x)) % 2, colour, grid[y, x]).astype(np.int8)


def stamp_and_markers(rng: Rng, setting: Setting, params: Params) -> Grid:
    """One blob with a cell of the marker's colour, and single markers."""
    height, width = setting.sides(rng, 6)
    grid = blank(height, width)
    stamp = blob(rng, setting)
    ys, xs = np.nonzero(stamp)
    at = between(rng, 0, len(ys) - 1)
    stamp[ys[at], xs[at]] = params["marker"]
    need(place(rng, grid, stamp))
    for _ in range(setting.amount(rng, 1, 4)):
        place(rng, grid, blank(1, 1, params["marker"]), gap=2)
    return grid


@family(stamp_and_markers, lambda rng, setting: {"marker": setting.other(rng)}, gives="objects", hardness=0.1)
def stamp_markers(grid: Grid, marker: int) -> Grid:
    """The one object around a marker is painted around every other marker too, on empty cells inside the grid."""
    found = things(grid)
    models = [thing for thing in found if thing.size > 1]
    need(len(models) == 1 and len(found) >= 2)
    (model,) = models
    colours = grid[model.ys, model.xs]
    need(int((colours == marker).sum()) == 1)
    at = int(np.flatnonzero(colours == marker)[0])
    result = grid.copy()
    for y, x in np.argwhere(grid == marker):
        ys, xs = model.ys - model.ys[at] + y, model.xs - model.xs[at] + x
        inside = (ys >= 0) & (xs >= 0) & (ys < grid.shape[0]) & (xs < grid.shape[1])
        inside[inside] &= result[ys[inside], xs[inside]] == 0
        result[ys[inside], xs[inside]] = colours[inside]
    return result


def one_blob(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = setting.sides(rng, 6)
    grid = blank(height, width)
    need(place(rng, grid, pick(rng, (blob, patch, one_cell))(rng, setting)))
    return grid


@family(one_blob, lambda rng, setting: {**draw_direction(rng, setting), "gap": between(rng, 0, 1)}, gives="sparse")
def repeat_object(grid: Grid, direction: str, gap: int) -> Grid:
    """The only object is repeated in one direction, with so many empty cells between the copies, to the border."""
    found = things(facing_down(grid, direction))
    need(len(found) == 1)
    down = facing_down(grid, direction).copy()
    picture, (rows, columns) = found[0].picture(down), found[0].box
    step = len(picture) + gap
    for y in range(rows.start + step, len(down), step):
        down[y : y + len(picture), columns] = picture[: len(down) - y]
    return facing_down(down, direction)
