"""What rules of cropping ask for."""

from __future__ import annotations

from itertools import groupby

from arc_kaggle.synth.verifiers.cells import Rows, cut, painted, require, size, window


def crop_content(rows: Rows) -> Rows:
    return cut(rows, *window(painted(rows)))


def take_half(rows: Rows, side: str) -> Rows:
    height, width = size(rows)
    if side in ("top", "bottom"):
        first = 0 if side == "top" else height - height // 2
        return [rows[first + i] for i in range(height // 2)]
    first = 0 if side == "left" else width - width // 2
    return [[row[first + i] for i in range(width // 2)] for row in rows]


def trim(rows: Rows) -> Rows:
    height, width = size(rows)
    return cut(rows, range(1, height - 1), range(1, width - 1))


def squeeze(rows: Rows) -> Rows:
    cells = painted(rows)
    return cut(rows, sorted({y for y, _ in cells}), sorted({x for _, x in cells}))


def drop_repeats(rows: Rows) -> Rows:
    kept = [row for row, _ in groupby(rows)]
    columns = [column for column, _ in groupby(zip(*kept, strict=True))]
    return [list(row) for row in zip(*columns, strict=True)]


def crop_frame(rows: Rows, colour: int) -> Rows:
    ys, xs = window(painted(rows, colour))
    return cut(rows, ys[1:-1], xs[1:-1])


def crop_corners(rows: Rows, colour: int) -> Rows:
    ys, xs = window(painted(rows, colour))
    require(set(painted(rows, colour)) == {(y, x) for y in (ys[0], ys[-1]) for x in (xs[0], xs[-1])})
    return crop_frame(rows, colour)


def crop_to_colour(rows: Rows, colour: int) -> Rows:
    return cut(rows, *window(painted(rows, colour)))
