"""What rules of stamps ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import (
    AROUND,
    SIDES,
    WAYS,
    Cells,
    Rows,
    at,
    objects,
    painted,
    redone,
    repainted,
    require,
    size,
    window,
)


def decorate(rows: Rows, one: int, plus: int, two: int, cross: int) -> Rows:
    corners = [step for step in AROUND if step not in SIDES]

    def colour(y: int, x: int) -> int:
        beside = any(at(rows, y + dy, x + dx) == one for dy, dx in SIDES)
        cornered = any(at(rows, y + dy, x + dx) == two for dy, dx in corners)
        require(not (beside and cornered))
        return plus if beside else cross if cornered else 0

    return redone(rows, lambda y, x: rows[y][x] or colour(y, x))


def grow(rows: Rows) -> Rows:
    def colour(y: int, x: int) -> int:
        beside = {at(rows, y + dy, x + dx) for dy, dx in SIDES} - {0}
        require(len(beside) <= 1)
        return sum(beside)

    return redone(rows, lambda y, x: rows[y][x] or colour(y, x))


def ripples(rows: Rows, colour: int) -> Rows:
    (((b, a), own),) = painted(rows).items()
    return redone(rows, lambda y, x: (own, colour)[max(abs(y - b), abs(x - a)) % 2])


def stamp_markers(rows: Rows, marker: int) -> Rows:
    things = objects(rows)
    (model,) = [thing for thing in things if len(thing) > 1]
    ((b, a),) = [cell for cell, colour in model.items() if colour == marker]
    change: Cells = {}
    for y, x in painted(rows, marker):
        for (v, u), colour in model.items():
            change.setdefault((y + v - b, x + u - a), colour)
    return redone(rows, lambda y, x: rows[y][x] or change.get((y, x), 0))


def repeat_object(rows: Rows, direction: str, gap: int) -> Rows:
    (thing,) = objects(rows)
    dy, dx = WAYS[direction]
    step = gap + len(window(thing)[0 if dy else 1])
    copies = range(0, max(size(rows)), step)
    return repainted(rows, {(y + i * dy, x + i * dx): c for (y, x), c in thing.items() for i in copies})
