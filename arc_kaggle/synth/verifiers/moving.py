"""What rules of motion ask for. Falling is simulated step by step."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import (
    WAYS,
    Cells,
    Rows,
    crossings,
    objects,
    painted,
    redone,
    require,
    size,
    turned,
)


def gravity(rows: Rows, direction: str) -> Rows:
    return _fallen(rows, direction, [{cell: colour} for cell, colour in painted(rows).items()])


def gravity_of_colour(rows: Rows, direction: str, colour: int) -> Rows:
    return _fallen(rows, direction, [{cell: colour} for cell in painted(rows, colour)])


def gravity_of_objects(rows: Rows, direction: str) -> Rows:
    return _fallen(rows, direction, objects(rows))


def _fallen(rows: Rows, direction: str, things: list[Cells]) -> Rows:
    """Things move a step whenever what lies in their way is their own or empty, until none can."""
    (height, width), (dy, dx) = size(rows), WAYS[direction]
    cells = painted(rows)
    moved = True
    while moved:
        moved = False
        for i, thing in enumerate(things):
            ahead = {(y + dy, x + dx): colour for (y, x), colour in thing.items()}
            inside = all(0 <= y < height and 0 <= x < width for y, x in ahead)
            if inside and all(cell in thing or cell not in cells for cell in ahead):
                cells = {cell: colour for cell, colour in cells.items() if cell not in thing} | ahead
                things[i], moved = ahead, True
    return redone(rows, lambda y, x: cells.get((y, x), 0))


def shift(rows: Rows, down: int, right: int) -> Rows:
    cells = {(y + down, x + right): colour for (y, x), colour in painted(rows).items()}
    return redone(rows, lambda y, x: cells.get((y, x), 0))


def roll(rows: Rows, down: int, right: int) -> Rows:
    height, width = size(rows)
    return redone(rows, lambda y, x: rows[(y - down) % height][(x - right) % width])


def shear(rows: Rows, step: int) -> Rows:
    _, width = size(rows)
    return redone(rows, lambda y, x: rows[y][(x - step * y) % width])


def attract(rows: Rows, wall: int) -> Rows:
    if crossings(turned(rows), wall):
        return turned(attract(turned(rows), wall))
    (at,) = crossings(rows, wall)
    cells = painted(rows)
    upper = [{cell: colour} for cell, colour in cells.items() if cell[0] < at]
    lower = [{cell: colour} for cell, colour in cells.items() if cell[0] > at]
    return _fallen(_fallen(rows, "down", upper), "up", lower)


def swap_halves(rows: Rows, axis: str) -> Rows:
    if axis == "horizontal":
        return turned(swap_halves(turned(rows), "vertical"))
    return [rows[_across(y, len(rows))] for y in range(len(rows))]


def _across(at: int, length: int) -> int:
    """The place in the other half that corresponds; the middle one's is itself."""
    if at < length // 2:
        return at + length - length // 2
    return at - (length - length // 2) if at >= length - length // 2 else at


def reverse_marked(rows: Rows, marker: int) -> Rows:
    require(any(row[0] == marker for row in rows))
    return [[row[0], *reversed(row[1:])] if row[0] == marker else row for row in rows]
