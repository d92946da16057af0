"""Rules of lines: rays, crosses, connections, and what is drawn around points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick, some
from arc_kaggle.synth.rules.moving import DIRECTIONS, draw_direction, facing_down
from arc_kaggle.synth.rules.scene import boxes, place, points
from arc_kaggle.tasks.grid import Grid


@family(points, draw_direction, takes="sparse", gives="sparse")
def rays(grid: Grid, direction: str) -> Grid:
    """Every painted cell draws a line in one direction, up to the next painted cell or the border."""
    down = facing_down(grid, direction).copy()
    for y in range(1, len(down)):
        down[y] = np.where(down[y] > 0, down[y], down[y - 1])
    return facing_down(down, direction)


def few_points(rng: Rng, setting: Setting, params: Params) -> Grid:
    """One to four single cells in the palette's first two colours."""
    height, width = setting.sides(rng, 4)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 1, 4)):
        grid[between(rng, 0, height - 1), between(rng, 0, width - 1)] = pick(rng, setting.palette[:2])
    return grid


def one_coloured(rng: Rng, setting: Setting, params: Params) -> Grid:
    grid = few_points(rng, setting, params)
    return np.where(grid > 0, pick(rng, setting.palette), 0).astype(np.int8)


@family(one_coloured, gives="sparse")
def crosses(grid: Grid) -> Grid:
    """Every cell, all of one colour, paints its row and its column."""
    colours = np.unique(grid[grid > 0])
    need(len(colours) == 1)
    hit = np.logical_or.outer(grid.any(axis=1), grid.any(axis=0))
    return np.where(hit, colours[0], 0).astype(np.int8)


def draw_line_colours(rng: Rng, setting: Setting) -> Params:
    need(len(setting.palette) >= 2)
    return {"across": setting.palette[0], "along": setting.palette[1]}


@family(few_points, draw_line_colours, gives="sparse")
def lines_by_colour(grid: Grid, across: int, along: int) -> Grid:
    """Cells of one colour paint their rows, those of another their columns; rows lie on top."""
    result = grid.copy()
    result[:, (grid == along).any(axis=0)] = along
    result[(grid == across).any(axis=1)] = across
    need((grid > 0).any())
    return result


@family(few_points, gives="sparse", hardness=0.05)
def diagonals(grid: Grid) -> Grid:
    """The only painted cell sends lines over all four diagonals to the border."""
    need(np.count_nonzero(grid) == 1)
    (y,), (x,) = np.nonzero(grid)
    ys, xs = np.indices(grid.shape)
    return np.where(abs(ys - y) == abs(xs - x), grid[y, x], 0).astype(np.int8)


def draw_diagonal(rng: Rng, setting: Setting) -> Params:
    return {"down": pick(rng, (-1, 1)), "right": pick(rng, (-1, 1))}


@family(one_coloured, draw_diagonal, gives="sparse", hardness=0.05)
def diagonal_rays(grid: Grid, down: int, right: int) -> Grid:
    """Every cell, all of one colour, draws a line over one diagonal to the border."""
    need(len(np.unique(grid[grid > 0])) == 1)
    cells = grid[::down, ::right].copy()
    for y in range(1, len(cells)):
        cells[y, 1:] |= cells[y - 1, :-1]
    return cells[::down, ::right]


def ball_on_floor(rng: Rng, setting: Setting, params: Params) -> Grid:
    """One cell in the lowest row of an empty grid, away from the walls."""
    height, width = setting.side(rng, 5), between(rng, 3, max(4, setting.longest // 2))
    grid = blank(height, width)
    grid[-1, between(rng, 1, width - 2)] = pick(rng, setting.palette)
    return grid


@family(ball_on_floor, lambda rng, setting: {"right": pick(rng, (-1, 1))}, gives="sparse", hardness=0.05)
def bounce(grid: Grid, right: int) -> Grid:
    """The only cell, in the lowest row, draws a line diagonally upwards that the walls throw back."""
    height, width = grid.shape
    need(np.count_nonzero(grid) == np.count_nonzero(grid[-1]) == 1 and width > 1)
    result, x = grid.copy(), int(np.flatnonzero(grid[-1])[0])
    colour = grid[-1, x]
    for y in range(height - 2, -1, -1):
        if not 0 <= x + right < width:
            right = -right
        x += right
        result[y, x] = colour
    return result


def twin_points(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Pairs of equal points in a row or a column."""
    height, width = setting.sides(rng, 4)
    grid = blank(height, width)
    for _ in range(setting.amount(rng, 1, 3)):
        cells = grid if rng.random() < 0.5 else grid.T
        at, (one, two) = between(rng, 0, len(cells) - 1), some(rng, range(cells.shape[1]), 2)
        if not cells[at].any() and abs(one - two) > 1:
            cells[at, [one, two]] = pick(rng, setting.palette)
    need(grid.any())
    return grid


@family(twin_points, takes="sparse", gives="sparse")
def connect(grid: Grid) -> Grid:
    """Equal cells in a row, and then in a column, are connected where nothing painted lies between them."""
    result = grid.copy()
    for cells, painted in ((grid, result), (grid.T, result.T)):
        for at, line in enumerate(cells):
            ends = np.flatnonzero(line)
            for one, two in pairwise(ends):
                if line[one] == line[two]:
                    between_them = painted[at, one + 1 : two]
                    between_them[between_them == 0] = line[one]
    return result


def ball_and_wall(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Boxes as walls and single cells of the ball's colour."""
    grid = boxes(rng, setting, params)
    for _ in range(setting.amount(rng, 1, 3)):
        place(rng, grid, blank(1, 1, params["ball"]), gap=0)
    return grid


def draw_ball(rng: Rng, setting: Setting) -> Params:
    return {"ball": setting.other(rng), "direction": pick(rng, DIRECTIONS)}


@family(ball_and_wall, draw_ball, gives="sparse", hardness=0.1)
def shoot_ball(grid: Grid, ball: int, direction: str) -> Grid:
    """Every ball leaves a trail of its colour in one direction, up to the next wall or the border."""
    down = facing_down(grid, direction).copy()
    need((grid == ball).any())
    for y in range(1, len(down)):
        down[y][(down[y - 1] == ball) & (down[y] == 0)] = ball
    return facing_down(down, direction)
