"""What rules of colours ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import Rows, build, counts, redone, require, size, top


def swap_colours(rows: Rows, one: int, two: int) -> Rows:
    return map_colours(rows, ((one, two), (two, one)))


def repaint(rows: Rows, old: int, new: int) -> Rows:
    return [[new if colour == old else colour for colour in row] for row in rows]


def map_colours(rows: Rows, change: tuple[tuple[int, int], ...]) -> Rows:
    return [[dict(change).get(colour, colour) for colour in row] for row in rows]


def drop_colour(rows: Rows, colour: int) -> Rows:
    return [[cell * (cell != colour) for cell in row] for row in rows]


def keep_colour(rows: Rows, colour: int) -> Rows:
    return [[cell * (cell == colour) for cell in row] for row in rows]


def _most(rows: Rows) -> int:
    known = counts(rows)
    return top(known, lambda colour: known[colour])


def fill_with_most(rows: Rows) -> Rows:
    return redone(rows, lambda y, x: _most(rows))


def most_colour(rows: Rows, side: int) -> Rows:
    return build(side, side, lambda y, x: _most(rows))


def swap_most_and_least(rows: Rows) -> Rows:
    known = counts(rows)
    require(len(known) > 1)
    return swap_colours(rows, _most(rows), top(known, lambda colour: -known[colour]))


def rank_colours(rows: Rows) -> Rows:
    known = counts(rows)
    require(len(set(known.values())) == len(known))
    ranked = {sum(other >= count for other in known.values()): colour for colour, count in known.items()}
    return [[ranked[rank]] for rank in range(1, len(ranked) + 1)]


def row_majority(rows: Rows) -> Rows:
    _, width = size(rows)
    return [[_most([row])] * width if any(row) else row for row in rows]
