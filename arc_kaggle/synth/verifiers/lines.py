"""What rules of lines ask for, cell by cell: what a cell sees in some direction."""

from __future__ import annotations

from arc_kaggle.synth.verifiers.cells import WAYS, Rows, at, first_seen, painted, redone, require, size


def rays(rows: Rows, direction: str) -> Rows:
    dy, dx = WAYS[direction]
    return redone(rows, lambda y, x: rows[y][x] or first_seen(rows, y, x, -dy, -dx))


def shoot_ball(rows: Rows, ball: int, direction: str) -> Rows:
    dy, dx = WAYS[direction]

    def colour(y: int, x: int) -> int:
        return ball if not rows[y][x] and first_seen(rows, y, x, -dy, -dx) == ball else rows[y][x]

    require(bool(painted(rows, ball)))
    return redone(rows, colour)


def crosses(rows: Rows) -> Rows:
    cells = painted(rows)
    (colour,) = set(cells.values())
    return redone(rows, lambda y, x: colour if any(y == b or x == a for b, a in cells) else 0)


def lines_by_colour(rows: Rows, across: int, along: int) -> Rows:
    columns = list(zip(*rows, strict=True))
    return redone(rows, lambda y, x: across if across in rows[y] else along if along in columns[x] else rows[y][x])


def diagonals(rows: Rows) -> Rows:
    (((b, a), colour),) = painted(rows).items()
    return redone(rows, lambda y, x: colour if y - b in (x - a, a - x) else 0)


def diagonal_rays(rows: Rows, down: int, right: int) -> Rows:
    (colour,) = set(painted(rows).values())
    reach = range(max(size(rows)))
    return redone(rows, lambda y, x: colour if any(at(rows, y - i * down, x - i * right) for i in reach) else 0)


def bounce(rows: Rows, right: int) -> Rows:
    height, width = size(rows)
    (((b, start), colour),) = painted(rows).items()
    require(b == height - 1 and width > 1)

    def place(steps: int) -> int:
        """A triangle wave between the walls."""
        phase = (start + right * steps) % (2 * width - 2)
        return min(phase, 2 * width - 2 - phase)

    return redone(rows, lambda y, x: colour if x == place(b - y) else 0)


def connect(rows: Rows) -> Rows:
    def colour(y: int, x: int) -> int:
        left, right, up, down = (first_seen(rows, y, x, *WAYS[way]) for way in ("left", "right", "up", "down"))
        return rows[y][x] or (left if left == right else 0) or (up if up == down else 0)

    return redone(rows, colour)
