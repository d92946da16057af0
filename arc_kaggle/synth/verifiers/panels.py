"""What rules of panels ask for."""

from __future__ import annotations

from itertools import groupby

from arc_kaggle.synth.verifiers.cells import Rows, build, counts, crossings, painted, redone, require, size, top, turned


def _panels(rows: Rows, line: int) -> list[Rows]:
    """What lies between lines that cross the grid, from left to right or else from above."""
    if crossings(turned(rows), line):
        parts = [turned(part) for part in _bands(turned(rows), line)]
    else:
        parts = _bands(rows, line)
    require(len(parts) > 1 and len({size(part) for part in parts}) == 1)
    return parts


def _bands(rows: Rows, line: int) -> list[Rows]:
    return [list(group) for is_line, group in groupby(rows, lambda row: set(row) == {line}) if not is_line]


def combine_halves(rows: Rows, line: int, operation: str, colour: int) -> Rows:
    one, two = _panels(rows, line)
    wanted = {
        "and": {(True, True)},
        "or": {(True, True), (True, False), (False, True)},
        "xor": {(True, False), (False, True)},
        "neither": {(False, False)},
        "first_only": {(True, False)},
    }[operation]
    return redone(one, lambda y, x: colour if (one[y][x] > 0, two[y][x] > 0) in wanted else 0)


def overlay(rows: Rows, line: int, last_on_top: bool) -> Rows:
    parts = _panels(rows, line)
    piled = parts[::-1] if last_on_top else parts
    return redone(parts[0], lambda y, x: next((part[y][x] for part in piled if part[y][x]), 0))


def odd_panel(rows: Rows, line: int) -> Rows:
    parts = _panels(rows, line)
    (odd,) = [part for part in parts if parts.count(part) == 1]
    require(len(parts) >= 3 and max(map(parts.count, parts)) == len(parts) - 1)
    return odd


def fullest_panel(rows: Rows, line: int) -> Rows:
    return top(_panels(rows, line), lambda part: len(painted(part)))


def symmetric_panel(rows: Rows, line: int) -> Rows:
    (even,) = [part for part in _panels(rows, line) if all(row == row[::-1] for row in part)]
    return even


def copy_to_panels(rows: Rows, line: int) -> Rows:
    first = _panels(rows, line)[0]
    height, width = size(first)
    beside = bool(crossings(turned(rows), line))

    def colour(y: int, x: int) -> int:
        part, inside = divmod(x, width + 1) if beside else divmod(y, height + 1)
        if part == 0 or inside == (width if beside else height):
            return rows[y][x]
        mark = rows[0][part * (width + 1)] if beside else rows[part * (height + 1)][0]
        require(mark > 0)
        return mark if (first[y][inside] if beside else first[inside][x]) else 0

    return redone(rows, colour)


def panel_colours(rows: Rows, line: int) -> Rows:
    colours = [top(counts(part).items(), lambda item: item[1])[0] for part in _panels(rows, line)]
    return [colours] if crossings(turned(rows), line) else [[colour] for colour in colours]


def summarize(rows: Rows, line: int) -> Rows:
    plain = drop_lines(rows, line)
    height, width = size(plain)
    (side,) = {len(band) for band in _bands(rows, line)}
    return build(height // side, width // side, lambda y, x: plain[y * side][x * side])


def drop_lines(rows: Rows, line: int) -> Rows:
    bands, stacks = crossings(rows, line), crossings(turned(rows), line)
    return [[c for x, c in enumerate(row) if x not in stacks] for y, row in enumerate(rows) if y not in bands]


def fill_panels(rows: Rows, line: int) -> Rows:
    down, across = crossings(rows, line), crossings(turned(rows), line)

    def panel(y: int, x: int) -> tuple[int, int]:
        return sum(y > at for at in down), sum(x > at for at in across)

    marks = {panel(y, x): c for (y, x), c in painted(rows).items() if y not in down and x not in across}
    return redone(rows, lambda y, x: line if y in down or x in across else marks.get(panel(y, x), 0))
