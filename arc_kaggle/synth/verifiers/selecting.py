"""What rules about one object ask for: which one it is, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from arc_kaggle.synth.verifiers.cells import (
    Cells,
    Rows,
    edge,
    enclosed,
    objects,
    outline,
    picture,
    redone,
    repainted,
    require,
    top,
    window,
)

Verifier = Callable[..., Rows]


def largest(rows: Rows, things: list[Cells]) -> Cells:
    return top(things, len)


def smallest(rows: Rows, things: list[Cells]) -> Cells:
    return top(things, lambda thing: -len(thing))


def most_colours(rows: Rows, things: list[Cells]) -> Cells:
    return top(things, lambda thing: len(set(thing.values())))


def _odd(things: list[Cells], key: Callable[[Cells], object]) -> Cells:
    keys = [key(thing) for thing in things]
    require(len(things) >= 3)
    (odd,) = [thing for thing in things if keys.count(key(thing)) == 1]
    return odd


def odd_colour(rows: Rows, things: list[Cells]) -> Cells:
    return _odd(things, lambda thing: thing[min(thing)])


def odd_shape(rows: Rows, things: list[Cells]) -> Cells:
    return _odd(things, outline)


def symmetric(rows: Rows, things: list[Cells]) -> Cells:
    (thing,) = [thing for thing in things if all(row == row[::-1] for row in picture(thing))]
    return thing


def at_border(rows: Rows, things: list[Cells]) -> Cells:
    (thing,) = [thing for thing in things if not thing.keys().isdisjoint(edge(rows))]
    return thing


def tallest(rows: Rows, things: list[Cells]) -> Cells:
    return top(things, lambda thing: len(window(thing)[0]))


def holed(rows: Rows, things: list[Cells]) -> Cells:
    (thing,) = [thing for thing in things if enclosed(picture(thing))]
    return thing


Choose = Callable[[Rows, list[Cells]], Cells]


def _chosen(choose: Choose, rows: Rows) -> Cells:
    things = objects(rows)
    require(len(things) > 1)
    return choose(rows, things)


def crop(choose: Choose, rows: Rows) -> Rows:
    return picture(_chosen(choose, rows))


def keep(choose: Choose, rows: Rows) -> Rows:
    kept = _chosen(choose, rows)
    return redone(rows, lambda y, x: kept.get((y, x), 0))


def drop(choose: Choose, rows: Rows) -> Rows:
    return paint(choose, rows, 0)


def paint(choose: Choose, rows: Rows, colour: int) -> Rows:
    return repainted(rows, dict.fromkeys(_chosen(choose, rows), colour))


CHOICES = (largest, smallest, most_colours, odd_colour, odd_shape, symmetric, at_border, tallest, holed)
SELECTING: dict[str, Verifier] = {
    f"{action.__name__}_{choose.__name__}": partial(action, choose)
    for action in (crop, keep, drop, paint)
    for choose in CHOICES
}


def crop_commonest(rows: Rows) -> Rows:
    things = objects(rows)
    shapes = [outline(thing) for thing in things]
    commonest = top(set(shapes), shapes.count)
    require(1 < shapes.count(commonest) < len(shapes))
    return picture(things[shapes.index(commonest)])
