"""What rules of frames ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import (
    AROUND,
    Cells,
    Rows,
    at,
    build,
    edge,
    objects,
    painted,
    redone,
    repainted,
    require,
    size,
    window,
)


def draw_border(rows: Rows, colour: int) -> Rows:
    return repainted(rows, dict.fromkeys(edge(rows), colour))


def add_border(rows: Rows, colour: int) -> Rows:
    height, width = size(rows)
    inside = painted(build(height, width, lambda y, x: 1))
    return build(height + 2, width + 2, lambda y, x: rows[y - 1][x - 1] if (y - 1, x - 1) in inside else colour)


def outline(rows: Rows, colour: int) -> Rows:
    def near(y: int, x: int) -> bool:
        return any(at(rows, y + dy, x + dx) for dy, dx in AROUND)

    return redone(rows, lambda y, x: rows[y][x] or (colour if near(y, x) else 0))


def fill_boxes(rows: Rows, colour: int) -> Rows:
    windows = [window(thing) for thing in objects(rows)]
    return redone(rows, lambda y, x: rows[y][x] or (colour if any(y in ys and x in xs for ys, xs in windows) else 0))


def draw_boxes(rows: Rows, filled: bool) -> Rows:
    change: Cells = {}
    for colour in set(painted(rows).values()):
        corners = painted(rows, colour)
        require(len(corners) == 2)
        ys, xs = window(corners)
        for y in ys:
            for x in xs:
                if filled or y in (ys[0], ys[-1]) or x in (xs[0], xs[-1]):
                    require((y, x) not in change)
                    change[y, x] = colour
    return repainted(rows, change)


def lattice(rows: Rows, every: int, colour: int) -> Rows:
    return redone(rows, lambda y, x: rows[y][x] or (0 if y % every and x % every else colour))


def mark_centres(rows: Rows, colour: int) -> Rows:
    windows = [window(thing) for thing in objects(rows)]
    require(all(len(side) % 2 for both in windows for side in both))
    return repainted(rows, {(ys[len(ys) // 2], xs[len(xs) // 2]): colour for ys, xs in windows})
