"""Rules of colours: swaps, maps, majorities."""

from __future__ import annotations

import numpy as np

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick, some
from arc_kaggle.synth.rules.scene import anything, noise, speckle
from arc_kaggle.synth.rules.things import colour_counts, the_most
from arc_kaggle.tasks.grid import Grid


def repainted(grid: Grid, change: dict[int, int]) -> Grid:
    """Every colour that is a key becomes its value."""
    table = np.arange(10, dtype=np.int8)
    table[list(change)] = list(change.values())
    return table[grid]


def draw_swap(rng: Rng, setting: Setting) -> Params:
    one, two = some(rng, setting.palette, 2)
    return {"one": one, "two": two}


@family(anything, draw_swap, takes="any", gives="same")
def swap_colours(grid: Grid, one: int, two: int) -> Grid:
    """Two colours become each other."""
    need((grid == one).any() or (grid == two).any())
    return repainted(grid, {one: two, two: one})


def draw_repaint(rng: Rng, setting: Setting) -> Params:
    return {"old": pick(rng, setting.palette), "new": setting.other(rng)}


@family(anything, draw_repaint, takes="any", gives="same")
def repaint(grid: Grid, old: int, new: int) -> Grid:
    """One colour becomes another."""
    need((grid == old).any())
    return repainted(grid, {old: new})


def draw_map(rng: Rng, setting: Setting) -> Params:
    olds = sorted(setting.palette)
    news = some(rng, range(1, 10), len(olds))
    need(all(old != new for old, new in zip(olds, news, strict=True)))
    return {"change": tuple(zip(olds, news, strict=True))}


def all_colours(rng: Rng, setting: Setting, params: Params) -> Grid:
    """An input that has every colour of the palette."""
    grid = anything(rng, setting, params)
    need(len(np.unique(grid[grid > 0])) == len(setting.palette))
    return grid


@family(all_colours, draw_map, takes="any", gives="same")
def map_colours(grid: Grid, change: tuple[tuple[int, int], ...]) -> Grid:
    """Every colour becomes another, each its own."""
    need(all((grid == old).any() for old, _ in change))
    return repainted(grid, dict(change))


def draw_colour(rng: Rng, setting: Setting) -> Params:
    need(len(setting.palette) >= 2)
    return {"colour": pick(rng, setting.palette)}


@family(speckle, draw_colour, takes="any", gives="sparse")
def drop_colour(grid: Grid, colour: int) -> Grid:
    """One colour is wiped out."""
    need((grid == colour).any())
    return repainted(grid, {colour: 0})


@family(speckle, draw_colour, takes="any", gives="sparse")
def keep_colour(grid: Grid, colour: int) -> Grid:
    """All colours but one are wiped out."""
    need((grid == colour).any())
    return np.where(grid == colour, grid, 0)


@family(noise, takes="any", gives="any", hardness=0.05)
def fill_with_most(grid: Grid) -> Grid:
    """Every cell takes the colour, 0 not counted, that most cells have."""
    return np.full_like(grid, the_most(colour_counts(grid)))


@family(noise, lambda rng, setting: {"side": between(rng, 1, 3)}, takes="any", gives="end")
def most_colour(grid: Grid, side: int) -> Grid:
    """A small square in the colour, 0 not counted, that most cells have."""
    return blank(side, side, the_most(colour_counts(grid)))


@family(speckle, takes="any", gives="same", hardness=0.1)
def swap_most_and_least(grid: Grid) -> Grid:
    """The most and the least common colour, 0 not counted, become each other."""
    counts = colour_counts(grid)
    need(len(counts) >= 2)
    most, least = the_most(counts), the_most({colour: -count for colour, count in counts.items()})
    return repainted(grid, {most: least, least: most})


@family(speckle, takes="any", gives="end", hardness=0.05)
def rank_colours(grid: Grid) -> Grid:
    """A column of the colours, 0 not counted, the most common on top."""
    counts = colour_counts(grid)
    need(len(set(counts.values())) == len(counts) >= 1)
    return np.array([[colour] for colour in sorted(counts, key=lambda c: -counts[c])], dtype=np.int8)


def rows_with_majority(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Rows of one colour each with a few cells in others."""
    height, width = setting.sides(rng, 3)
    colours = np.array(setting.palette, dtype=np.int8)
    main = colours[rng.integers(len(colours), size=(height, 1))]
    noise = colours[rng.integers(len(colours), size=(height, width))]
    return np.where(rng.random((height, width)) < 0.7, main, noise)


@family(rows_with_majority, takes="any", gives="any", hardness=0.05)
def row_majority(grid: Grid) -> Grid:
    """Every row takes the colour, 0 not counted, that most of its cells have; rows of 0 stay."""
    result = grid.copy()
    for row in result:
        if row.any():
            row[:] = the_most(colour_counts(row))
    return result
