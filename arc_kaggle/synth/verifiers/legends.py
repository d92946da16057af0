"""What rules ask for in which something in the grid says what colour another thing takes."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import Cells, Rows, objects, outline, redone, repainted, require, size, turned


def legend(rows: Rows) -> Rows:
    require(not any(rows[2]))
    keys = {old: x for x, old in enumerate(rows[0]) if old}
    return [*rows[:3], *([rows[1][keys[c]] if c in keys else c for c in row] for row in rows[3:])]


def header_colours(rows: Rows, grey: int) -> Rows:
    return redone(rows, lambda y, x: rows[0][x] if rows[y][x] == grey else rows[y][x])


def infect(rows: Rows, grey: int) -> Rows:
    change: Cells = {}
    for thing in objects(rows):
        (dot,) = [colour for colour in thing.values() if colour != grey]
        change |= dict.fromkeys(thing, dot)
    return repainted(rows, change)


def match_twins(rows: Rows, grey: int) -> Rows:
    change: Cells = {}
    for thing in objects(rows):
        if grey in thing.values():
            twins = [other for other in objects(rows) if outline(other) == outline(thing)]
            (colour,) = {next(iter(twin.values())) for twin in twins} - {grey}
            change |= dict.fromkeys(thing, colour)
    return repainted(rows, change)


def nearest_wall(rows: Rows, grey: int) -> Rows:
    if not _has_walls(rows):
        require(_has_walls(turned(rows)))
        return turned(nearest_wall(turned(rows), grey))
    _, width = size(rows)

    def nearer(y: int, x: int) -> int:
        require(x != width - 1 - x)
        return rows[y][0] if x < width - 1 - x else rows[y][-1]

    return redone(rows, lambda y, x: nearer(y, x) if rows[y][x] == grey else rows[y][x])


def _has_walls(rows: Rows) -> bool:
    """Whether the first and the last column have one colour each, and not the same."""
    left, *_, right = turned(rows)
    return len(set(left)) == len(set(right)) == 1 and left != right


def swap_within(rows: Rows) -> Rows:
    change: Cells = {}
    for thing in objects(rows):
        colours = sorted(set(thing.values()))
        require(len(colours) <= 2)
        change |= {cell: colours[colour == colours[0] and len(colours) == 2] for cell, colour in thing.items()}
    return repainted(rows, change)
