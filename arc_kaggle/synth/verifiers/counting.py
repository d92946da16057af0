"""What rules of counting and order ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import Rows, build, counts, objects, painted, require, top


def count_cells(rows: Rows, colour: int) -> Rows:
    return [[cell for row in rows for cell in row if cell == colour]]


def count_objects(rows: Rows, colour: int, length: int) -> Rows:
    n = len(objects(rows))
    require(n <= length)
    return [[colour] * n + [0] * (length - n)]


def count_diagonal(rows: Rows, colour: int) -> Rows:
    n = len(objects(rows))
    return build(n, n, lambda y, x: colour if y == x else 0)


def histogram(rows: Rows) -> Rows:
    known = counts(rows)
    ranked = {sum(other > count for other in known.values()): colour for colour, count in known.items()}
    require(len(ranked) == len(known))
    longest = max(known.values())
    return [[ranked[i]] * known[ranked[i]] + [0] * (longest - known[ranked[i]]) for i in range(len(ranked))]


def count_into_square(rows: Rows, colour: int) -> Rows:
    n = len(painted(rows, colour))
    require(n <= 9)
    return build(3, 3, lambda y, x: colour if 3 * y + x < n else 0)


def sort_columns(rows: Rows, falling: bool) -> Rows:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*sort_rows(columns, falling), strict=True)]


def sort_rows(rows: Rows, falling: bool) -> Rows:
    filled = [sum(map(bool, row)) for row in rows]
    require(len(set(filled)) == len(filled))
    place = [sum(other > n if falling else other < n for other in filled) for n in filled]
    return [rows[place.index(i)] for i in range(len(rows))]


def list_colours(rows: Rows) -> Rows:
    begins = {min(x for _, x in thing): min(thing.items())[1] for thing in objects(rows, same_colour=True)}
    require(len(begins) == len(objects(rows, same_colour=True)))
    return [[begins[x] for x in sorted(begins)]]


def colour_of_most_objects(rows: Rows, side: int) -> Rows:
    colours = [min(thing.items())[1] for thing in objects(rows, same_colour=True)]
    require(len(set(colours)) > 1)
    most = top(set(colours), colours.count)
    return build(side, side, lambda y, x: most)
