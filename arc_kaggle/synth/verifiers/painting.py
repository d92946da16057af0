"""What rules ask for that paint or wipe out cells and objects by what they are."""

from __future__ import annotations

from collections.abc import Callable

from arc_kaggle.synth.verifiers.cells import (
    AROUND,
    SIDES,
    Cells,
    Rows,
    at,
    edge,
    enclosed,
    objects,
    picture,
    redone,
    repainted,
    require,
    top,
)


def checkers(rows: Rows, even: int, odd: int) -> Rows:
    return redone(rows, lambda y, x: (even, odd)[(y + x) % 2] if rows[y][x] else 0)


def paint_by_neighbours(rows: Rows, count: int, colour: int) -> Rows:
    def hit(y: int, x: int) -> bool:
        return rows[y][x] > 0 and sum(at(rows, y + dy, x + dx) > 0 for dy, dx in SIDES) == count

    return redone(rows, lambda y, x: colour if hit(y, x) else rows[y][x])


def denoise(rows: Rows) -> Rows:
    return redone(rows, lambda y, x: rows[y][x] if any(at(rows, y + dy, x + dx) for dy, dx in AROUND) else 0)


def _painted_by(rows: Rows, colour: Callable[[Cells], int]) -> Rows:
    return repainted(rows, {cell: colour(thing) for thing in objects(rows) for cell in thing})


def paint_by_size(rows: Rows, one: int, two: int, more: int) -> Rows:
    return _painted_by(rows, lambda thing: {1: one, 2: two}.get(len(thing), more))


def paint_by_holes(rows: Rows, holed: int, whole: int) -> Rows:
    return _painted_by(rows, lambda thing: holed if enclosed(picture(thing)) else whole)


def paint_touching(rows: Rows, colour: int) -> Rows:
    ring = set(edge(rows))
    touching = [thing for thing in objects(rows) if ring & thing.keys()]
    return repainted(rows, {cell: colour for thing in touching for cell in thing})


def paint_by_parity(rows: Rows, even: int, odd: int) -> Rows:
    return _painted_by(rows, lambda thing: (even, odd)[len(thing) % 2])


def paint_extremes(rows: Rows, longest: int, shortest: int) -> Rows:
    things = objects(rows)
    require(len(things) >= 3)
    most, least = top(things, len), top(things, lambda thing: -len(thing))
    return repainted(rows, dict.fromkeys(most, longest) | dict.fromkeys(least, shortest))


def paint_alternate(rows: Rows, colour: int) -> Rows:
    begins = {min(x for _, x in thing): thing for thing in objects(rows)}
    require(len(begins) == len(objects(rows)))
    chosen = [begins[x] for i, x in enumerate(sorted(begins)) if i % 2]
    return repainted(rows, {cell: colour for thing in chosen for cell in thing})
