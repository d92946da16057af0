"""Rules of panels: grids that lines divide into parts, which are combined, compared, chosen from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.synth.rules.base import Params, Rng, Setting, between, blank, family, need, pick
from arc_kaggle.synth.rules.scene import retry
from arc_kaggle.synth.rules.things import colour_counts, the_most
from arc_kaggle.tasks.grid import Grid


def join(panels: list[Grid], line: int, upright: bool) -> Grid:
    """Panels beside each other (below each other where `upright` is False) with lines between them."""
    cells = panels if upright else [panel.T for panel in panels]
    parts = [cells[0]]
    for panel in cells[1:]:
        parts += [blank(panel.shape[0], 1, line), panel]
    joined = np.hstack(parts)
    return joined if upright else joined.T


def split(grid: Grid, line: int) -> list[Grid]:
    """The panels between lines that cross the whole grid, in order. Raises Unfit where their shapes differ."""
    if not (grid == line).all(axis=0).any():
        return [panel.T for panel in split_upright(grid.T, line)]
    return split_upright(grid, line)


def split_upright(grid: Grid, line: int) -> list[Grid]:
    cuts = [-1, *np.flatnonzero((grid == line).all(axis=0)).tolist(), grid.shape[1]]
    panels = [grid[:, one + 1 : two] for one, two in pairwise(cuts)]
    need(len(panels) >= 2 and len({panel.shape for panel in panels}) == 1 and panels[0].size > 0)
    return panels


def draw_line(rng: Rng, setting: Setting) -> Params:
    return {"line": setting.other(rng)}


def panel_sides(rng: Rng, setting: Setting) -> tuple[int, int]:
    most = max(2, min(6, (setting.longest - 1) // 2))
    return between(rng, 2, most + 1), between(rng, 2, most)


def dots(rng: Rng, height: int, width: int, colour: int, share: float = 0.45) -> Grid:
    return np.where(rng.random((height, width)) < share, colour, 0).astype(np.int8)


OPERATIONS: dict[str, Callable[[Grid, Grid], NDArray[np.bool_]]] = {
    "and": lambda one, two: (one > 0) & (two > 0),
    "or": lambda one, two: (one > 0) | (two > 0),
    "xor": lambda one, two: (one > 0) != (two > 0),
    "neither": lambda one, two: (one == 0) & (two == 0),
    "first_only": lambda one, two: (one > 0) & (two == 0),
}


def draw_logic(rng: Rng, setting: Setting) -> Params:
    line, colour = setting.others(rng, 2)
    return {"line": line, "operation": pick(rng, tuple(OPERATIONS)), "colour": colour}


def two_panels(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = panel_sides(rng, setting)
    colours = (setting.palette[0], setting.palette[-1])
    panels = [dots(rng, height, width, colour) for colour in colours]
    return join(panels, params["line"], upright=rng.random() < 0.5)


@family(two_panels, draw_logic, gives="sparse")
def combine_halves(grid: Grid, line: int, operation: str, colour: int) -> Grid:
    """Two panels become one, painted where a condition on both holds: painted in both, in one, in none, ..."""
    panels = split(grid, line)
    need(len(panels) == 2)
    return np.where(OPERATIONS[operation](*panels), colour, 0).astype(np.int8)


def draw_overlay(rng: Rng, setting: Setting) -> Params:
    return {"line": setting.other(rng), "last_on_top": rng.random() < 0.5}


def several_panels(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = panel_sides(rng, setting)
    n = between(rng, 2, min(4, 2 + setting.longest // 8))
    panels = [dots(rng, height, width, setting.palette[i % len(setting.palette)]) for i in range(n)]
    return join(panels, params["line"], upright=rng.random() < 0.5)


@family(several_panels, draw_overlay, gives="sparse")
def overlay(grid: Grid, line: int, last_on_top: bool) -> Grid:
    """All panels on each other."""
    panels = split(grid, line)
    result = np.zeros_like(panels[0])
    for panel in panels if last_on_top else panels[::-1]:
        result = np.where(panel > 0, panel, result)
    return result


def one_odd_panel(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = panel_sides(rng, setting)
    usual, odd = (dots(rng, height, width, setting.palette[0], 0.5) for _ in range(2))
    n = between(rng, 3, 3 + round(setting.difficulty))
    at = between(rng, 0, n - 1)
    return join([odd if i == at else usual for i in range(n)], params["line"], upright=rng.random() < 0.5)


@family(one_odd_panel, draw_line, gives="any", hardness=0.1)
def odd_panel(grid: Grid, line: int) -> Grid:
    """The one panel that differs from all others, which are equal."""
    panels = split(grid, line)
    counts = Counter(panel.tobytes() for panel in panels)
    need(len(panels) >= 3 and sorted(counts.values()) == [1, len(panels) - 1])
    return next(panel for panel in panels if counts[panel.tobytes()] == 1)


@family(several_panels, draw_line, gives="any", hardness=0.05)
def fullest_panel(grid: Grid, line: int) -> Grid:
    """The panel with most painted cells."""
    panels = split(grid, line)
    return panels[the_most({i: int(np.count_nonzero(panel)) for i, panel in enumerate(panels)})]


def one_mirrored(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = panel_sides(rng, setting)
    width = max(3, width)
    panels = [dots(rng, height, width, setting.palette[0], 0.5) for _ in range(between(rng, 2, 4))]
    chosen = pick(rng, panels)
    chosen[:, width // 2 :] = chosen[:, : (width + 1) // 2][:, ::-1]
    return join(panels, params["line"], upright=rng.random() < 0.5)


@family(one_mirrored, draw_line, gives="any", hardness=0.1)
def symmetric_panel(grid: Grid, line: int) -> Grid:
    """The only panel that is the same mirrored left to right."""
    even = [panel for panel in split(grid, line) if (panel == panel[:, ::-1]).all()]
    need(len(even) == 1)
    return even[0]


def one_full_panel(rng: Rng, setting: Setting, params: Params) -> Grid:
    height, width = panel_sides(rng, setting)
    n = between(rng, 2, min(4, 2 + setting.longest // 8))
    first = dots(rng, height, width, setting.palette[0])
    need(first.any())
    panels = [first]
    for _ in range(n - 1):
        panels.append(blank(height, width))
        panels[-1][0, 0] = pick(rng, setting.palette)
    return join(panels, params["line"], upright=rng.random() < 0.5)


@family(one_full_panel, draw_line, gives="sparse", hardness=0.15)
def copy_to_panels(grid: Grid, line: int) -> Grid:
    """The first panel's picture goes into every other panel, in the colour that stands in its corner."""
    panels = split(grid, line)
    need(panels[0].any())
    marks = [int(panel[0, 0]) for panel in panels[1:]]
    need(all(marks) and all(np.count_nonzero(panel) == 1 for panel in panels[1:]))
    copies = [np.where(panels[0] > 0, mark, 0).astype(np.int8) for mark in marks]
    return join([panels[0], *copies], line, upright=bool((grid == line).all(axis=0).any()))


def majority_panels(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Panels with one clear majority colour each."""
    height, width = panel_sides(rng, setting)
    colours = np.array(setting.palette, dtype=np.int8)

    def panel() -> Grid:
        main = pick(rng, setting.palette)
        return np.where(rng.random((height, width)) < 0.65, main, rng.choice(colours, (height, width))).astype(np.int8)

    clear = [retry(panel, _has_majority) for _ in range(between(rng, 2, 4))]
    return join(clear, params["line"], upright=rng.random() < 0.5)


def _has_majority(panel: Grid) -> bool:
    ranked = sorted(colour_counts(panel).values())
    return len(ranked) == 1 or ranked[-1] > ranked[-2]


@family(majority_panels, draw_line, gives="end", hardness=0.1)
def panel_colours(grid: Grid, line: int) -> Grid:
    """One cell a panel, in the colour that most of its cells have."""
    upright = bool((grid == line).all(axis=0).any())
    row = np.array([[the_most(colour_counts(panel)) for panel in split(grid, line)]], dtype=np.int8)
    return row if upright else row.T
