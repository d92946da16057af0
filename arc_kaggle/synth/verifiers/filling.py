"""What rules of filling ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import (
    SIDES,
    Cells,
    Rows,
    at,
    enclosed,
    outside,
    painted,
    redone,
    repainted,
    require,
    size,
    walk,
)


def fill_enclosed(rows: Rows, colour: int) -> Rows:
    return repainted(rows, dict.fromkeys(enclosed(rows), colour))


def fill_outside(rows: Rows, colour: int) -> Rows:
    require(bool(enclosed(rows)))
    return repainted(rows, dict.fromkeys(outside(rows), colour))


def fill_by_size(rows: Rows, even: int, odd: int) -> Rows:
    inside, change = enclosed(rows), Cells()
    for cell in inside:
        area = walk([cell], lambda y, x: (y, x) in inside)
        change[cell] = (even, odd)[len(area) % 2]
    return repainted(rows, change)


def flood(rows: Rows, seed: int) -> Rows:
    height, width = size(rows)
    seeds = painted(rows, seed)
    require(bool(seeds))
    wet = walk(seeds, lambda y, x: 0 <= y < height and 0 <= x < width and rows[y][x] in (0, seed))
    return repainted(rows, dict.fromkeys(wet, seed))


def _inner(rows: Rows, y: int, x: int) -> bool:
    """No neighbour differs; what lies outside the grid does."""
    return rows[y][x] > 0 and all(at(rows, y + dy, x + dx) == rows[y][x] for dy, dx in SIDES)


def hollow(rows: Rows) -> Rows:
    return redone(rows, lambda y, x: 0 if _inner(rows, y, x) else rows[y][x])


def paint_inner(rows: Rows, colour: int) -> Rows:
    return redone(rows, lambda y, x: colour if _inner(rows, y, x) else rows[y][x])


def paint_rim(rows: Rows, colour: int) -> Rows:
    return redone(rows, lambda y, x: colour if rows[y][x] and not _inner(rows, y, x) else rows[y][x])


def bridge(rows: Rows, colour: int) -> Rows:
    def gap(y: int, x: int) -> bool:
        across, along = (at(rows, y, x - 1), at(rows, y, x + 1)), (at(rows, y - 1, x), at(rows, y + 1, x))
        return any(one == two != 0 for one, two in (across, along))

    return redone(rows, lambda y, x: rows[y][x] or (colour if gap(y, x) else 0))
