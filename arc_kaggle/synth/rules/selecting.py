"""Rules about one object of several: it is cut out, kept alone, wiped out or painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from arc_kaggle.synth.rules.base import Family, Kind, Params, Rng, Setting, family, need
from arc_kaggle.synth.rules.choosing import CHOOSERS, Choose, commonest_shape, copies
from arc_kaggle.synth.rules.scene import blob
from arc_kaggle.synth.rules.things import Thing, things
from arc_kaggle.tasks.grid import Grid


def the_one(choose: Choose, grid: Grid) -> Thing:
    """The chosen one of several objects."""
    found = things(grid)
    need(len(found) >= 2)
    return choose(grid, found)


def crop(choose: Choose) -> Callable[[Grid], Grid]:
    def rule(grid: Grid) -> Grid:
        return the_one(choose, grid).picture(grid)

    return rule


def keep(choose: Choose) -> Callable[[Grid], Grid]:
    def rule(grid: Grid) -> Grid:
        thing, result = the_one(choose, grid), np.zeros_like(grid)
        result[thing.ys, thing.xs] = grid[thing.ys, thing.xs]
        return result

    return rule


def drop(choose: Choose) -> Callable[[Grid], Grid]:
    def rule(grid: Grid) -> Grid:
        return painted(grid, the_one(choose, grid), 0)

    return rule


def paint(choose: Choose) -> Callable[..., Grid]:
    def rule(grid: Grid, colour: int) -> Grid:
        return painted(grid, the_one(choose, grid), colour)

    return rule


def painted(grid: Grid, thing: Thing, colour: int) -> Grid:
    result = grid.copy()
    result[thing.ys, thing.xs] = colour
    return result


def _families() -> list[Family]:
    """Every chooser with everything that can become of what it chooses: `crop_largest`, `paint_odd_shape`, ..."""
    made = []
    for name, (choose, make) in CHOOSERS.items():
        for action in (crop, keep, drop):
            gives: Kind = "any" if action is crop else "objects"
            plain = family(make, takes="objects", gives=gives, hardness=0.05)(action(choose))
            made.append(replace(plain, name=f"{action.__name__}_{name}"))
        made_paint = family(make, draw_paint, takes="objects", gives="objects", hardness=0.05)(paint(choose))
        made.append(replace(made_paint, name=f"paint_{name}"))
    return made


def draw_paint(rng: Rng, setting: Setting) -> Params:
    return {"colour": setting.other(rng)}


SELECTING = _families()


def repeated_shapes(rng: Rng, setting: Setting, params: Params) -> Grid:
    """Several shapes, each a few times, in one colour each."""
    pictures = [blob(rng, setting) for _ in range(setting.amount(rng, 2, 3))]
    counts = [2 + round(setting.difficulty * rng.random() * 2), *(1 for _ in pictures[1:])]
    return copies(rng, setting, [p for p, n in zip(pictures, counts, strict=True) for _ in range(n)])


@family(repeated_shapes, takes="objects", gives="any", hardness=0.1)
def crop_commonest(grid: Grid) -> Grid:
    """The first of the objects whose shape is the most frequent one."""
    return commonest_shape(grid, things(grid)).picture(grid)
