"""What rules of repetition ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import Rows, build, painted, require, size


def tile(rows: Rows, down: int, across: int) -> Rows:
    height, width = size(rows)
    return build(height * down, width * across, lambda y, x: rows[y % height][x % width])


def _there_and_back(at: int, length: int) -> int:
    return min(at % (2 * length), 2 * length - 1 - at % (2 * length))


def mirror_tile(rows: Rows, down: int, across: int) -> Rows:
    height, width = size(rows)

    def colour(y: int, x: int) -> int:
        return rows[_there_and_back(y, height)][_there_and_back(x, width)]

    return build(height * down, width * across, colour)


def four_turns(rows: Rows) -> Rows:
    n = len(rows)
    require(n == len(rows[0]))

    def colour(y: int, x: int) -> int:
        if y < n:
            return rows[y][x] if x < n else rows[n - 1 - (x - n)][y]
        return rows[x][n - 1 - (y - n)] if x < n else rows[2 * n - 1 - y][2 * n - 1 - x]

    return build(2 * n, 2 * n, colour)


def upscale(rows: Rows, factor: int) -> Rows:
    height, width = size(rows)
    return build(height * factor, width * factor, lambda y, x: rows[y // factor][x // factor])


def upscale_by_colours(rows: Rows) -> Rows:
    return upscale(rows, len(set(painted(rows).values())))


def downscale(rows: Rows, factor: int) -> Rows:
    height, width = size(rows)

    def colour(y: int, x: int) -> int:
        (only,) = {c for row in rows[y * factor :][:factor] for c in row[x * factor :][:factor]}
        return only

    return build(height // factor, width // factor, colour)


def fractal(rows: Rows, inverse: bool) -> Rows:
    height, width = size(rows)

    def colour(y: int, x: int) -> int:
        return rows[y % height][x % width] if (rows[y // height][x // width] == 0) == inverse else 0

    return build(height * height, width * width, colour)


def stamp_colour(rows: Rows, colour: int) -> Rows:
    marks = [[int(c == colour) for c in row] for row in rows]
    height, width = size(rows)
    return build(height**2, width**2, lambda y, x: marks[y // height][x // width] * rows[y % height][x % width])
