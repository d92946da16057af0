"""Rules of lattices: panels in rows and columns, with lines between them."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.panels import draw_line
from arc_kaggle.synth.rules.things import things
from arc_kaggle.tasks.grid import Grid


def latticed(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Panels of one colour each, divided by lines both ways."""
    rows, columns = (between(rng, 2, max(2, min(5, setting.longest // 3))) for _ in range(2))
    side = between(rng, 1, max(1, min(3, (setting.longest + 1) // max(rows, columns) - 1)))
    colours = np.array((0, *setting.palette), dtype=np.int8)
    small = colours[rng.integers(len(colours), size=(rows, columns))]
    grid = blank(rows * (side + 1) - 1, columns * (side + 1) - 1, params["line"])
    for dy in range(side):
        for dx in range(side):
            grid[dy :: side + 1, dx :: side + 1] = small
    return grid


@family(latticed, draw_line)
def summarize(grid: Grid, line: int) -> Grid:
    """Every panel of a lattice becomes one cell."""
    rows = ~(grid == line).all(axis=1)
    columns = ~(grid == line).all(axis=0)
    need(not rows.all() and not columns.all())
    first = [[i for i in range(len(free)) if free[i] and (i == 0 or not free[i - 1])] for free in (rows, columns)]
    need(min(map(len, first)) >= 2)
    return grid[first[0]][:, first[1]]


@family(latticed, draw_line)
def drop_lines(grid: Grid, line: int) -> Grid:
    """The lines are left out."""
    rows, columns = ~(grid == line).all(axis=1), ~(grid == line).all(axis=0)
    need(rows.any() and columns.any() and not (rows.all() and columns.all()))
    return grid[np.ix_(rows, columns)]


def marked_lattice(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Empty panels, divided by lines both ways; some hold one painted cell."""
    rows, columns = (between(rng, 2, max(2, min(4, setting.longest // 4))) for _ in range(2))
    side = between(rng, 2, max(2, min(4, (setting.longest + 1) // max(rows, columns) - 1)))
    grid = blank(rows * (side + 1) - 1, columns * (side + 1) - 1)
    grid[side :: side + 1] = params["line"]
    grid[:, side :: side + 1] = params["line"]
    for row in range(rows):
        for column in range(columns):
            if rng.random() < 0.4:
                y, x = (at * (side + 1) + between(rng, 0, side - 1) for at in (row, column))
                grid[y, x] = pick(rng, setting.palette)
    need((grid > 0).sum() > (grid == params["line"]).sum())
    return grid


@family(marked_lattice, draw_line, gives="sparse", hardness=0.05)
def fill_panels(grid: Grid, line: int) -> Grid:
    """Every panel with one painted cell is filled in its colour."""
    rows, columns = (grid == line).all(axis=1), (grid == line).all(axis=0)
    need(rows.any() and columns.any())
    result = grid.copy()
    for panel in things(((~rows[:, None]) & ~columns).astype(np.int8), diagonal=False):
        marks = np.unique(grid[panel.ys, panel.xs])
        need(len(marks) <= 2 and line not in marks)
        result[panel.ys, panel.xs] = marks.max()
    return result
