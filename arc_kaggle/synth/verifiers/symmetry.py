"""What rules of symmetry ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import (
    Rows,
    build,
    crossings,
    cut,
    objects,
    painted,
    redone,
    repainted,
    require,
    size,
    turned,
    window,
)


def flip(rows: Rows, axis: str) -> Rows:
    height, width = size(rows)
    if axis == "vertical":
        return redone(rows, lambda y, x: rows[height - 1 - y][x])
    return redone(rows, lambda y, x: rows[y][width - 1 - x])


def turn(rows: Rows, quarters: int) -> Rows:
    for _ in range(quarters):
        rows = [list(column) for column in zip(*rows, strict=True)][::-1]
    return rows


def transpose(rows: Rows, falling: bool) -> Rows:
    height, width = size(rows)
    if falling:
        return build(width, height, lambda y, x: rows[x][y])
    return build(width, height, lambda y, x: rows[height - 1 - x][width - 1 - y])


def mirror_over(rows: Rows, axis: str) -> Rows:
    other = flip(rows, axis)
    return redone(rows, lambda y, x: rows[y][x] or other[y][x])


def pinwheel(rows: Rows) -> Rows:
    n = len(rows) - 1
    require(len(rows) == len(rows[0]))
    return redone(rows, lambda y, x: rows[y][x] or rows[x][n - y] or rows[n - y][n - x] or rows[n - x][y])


def repair_symmetry(rows: Rows, mask: int) -> Rows:
    height, width = size(rows)

    def seen(y: int, x: int) -> int:
        if rows[y][x] != mask:
            return rows[y][x]
        twins = {rows[b][a] for b in (y, height - 1 - y) for a in (x, width - 1 - x)} - {mask}
        (colour,) = twins
        return colour

    return redone(rows, seen)


def crop_hidden(rows: Rows, mask: int) -> Rows:
    return cut(repair_symmetry(rows, mask), *window(painted(rows, mask)))


def mirror_at_line(rows: Rows, line: int) -> Rows:
    if crossings(turned(rows), line):
        return turned(mirror_at_line(turned(rows), line))
    (at,) = crossings(rows, line)
    twins = {(2 * at - y, x): colour for (y, x), colour in painted(rows).items()}
    return repainted(rows, {(y, x): c for (y, x), c in twins.items() if 0 <= y < len(rows) and not rows[y][x]})


def flip_objects(rows: Rows, axis: str) -> Rows:
    result: dict[tuple[int, int], int] = {}
    for thing in objects(rows):
        ys, xs = window(thing)
        for (y, x), colour in thing.items():
            cell = (ys.start + ys.stop - 1 - y, x) if axis == "vertical" else (y, xs.start + xs.stop - 1 - x)
            require(cell not in result)
            result[cell] = colour
    return redone(rows, lambda y, x: result.get((y, x), 0))
