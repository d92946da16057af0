"""What rules of patterns ask for."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import Rows, build, redone, require, size


def continue_rows(rows: Rows) -> Rows:
    return [_continued(row) for row in rows]


def _continued(row: list[int]) -> list[int]:
    shown = [colour for colour in row if colour]
    require(row[: len(shown)] == shown)
    for period in range(1, len(shown) // 2 + 1):
        whole = (shown[:period] * len(row))[: len(row)]
        if whole[: len(shown)] == shown:
            return whole
    require(not shown)
    return row


def spread_pattern(rows: Rows) -> Rows:
    h, w = sum(map(any, rows)), sum(map(any, zip(*rows, strict=True)))
    require(all(rows[y][x] for y in range(h) for x in range(w)))
    return redone(rows, lambda y, x: rows[y % h][x % w])


def repair_tiles(rows: Rows, mask: int) -> Rows:
    sides = [(h, w) for _, h, w in sorted((h * w, h, w) for h in (1, 2, 3) for w in (1, 2, 3))]
    h, w = next((side for side in sides if all(len(c) <= 1 for c in _seen(rows, mask, *side).values())), (1, 1))
    seen = _seen(rows, mask, h, w)
    require(all(len(colours) == 1 for colours in seen.values()))
    return redone(rows, lambda y, x: min(seen[y % h, x % w]))


def _seen(rows: Rows, mask: int, h: int, w: int) -> dict[tuple[int, int], set[int]]:
    """The colours that show at each place of a tile of h x w cells."""
    seen: dict[tuple[int, int], set[int]] = {(y, x): set() for y in range(h) for x in range(w)}
    for y, row in enumerate(rows):
        for x, colour in enumerate(row):
            seen[y % h, x % w] |= {colour} - {mask}
    return seen


def stairs(rows: Rows, step: int, high: int) -> Rows:
    (row,) = rows
    length = len([colour for colour in row if colour])
    return build(high, len(row), lambda y, x: row[0] if x < length + step * y else 0)


def reverse_rings(rows: Rows) -> Rows:
    height, width = size(rows)
    last = (min(height, width) - 1) // 2

    def ring(y: int, x: int) -> int:
        return min(y, x, height - 1 - y, width - 1 - x)

    colours = {ring(y, x): rows[y][x] for y in range(height) for x in range(width)}
    require(all(rows[y][x] == colours[ring(y, x)] for y in range(height) for x in range(width)))
    return redone(rows, lambda y, x: colours[last - ring(y, x)])
