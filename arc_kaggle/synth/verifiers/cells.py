"""Grids as rows of plain integers, and the few words that verifiers describe them with. No arrays, no generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Rows = list[list[int]]
Cell = tuple[int, int]
"""Row and column."""
Cells = dict[Cell, int]
"""Colours by place, in reading order."""

T = TypeVar("T")
WAYS = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}
SIDES = tuple(WAYS.values())
AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def size(rows: Rows) -> tuple[int, int]:
    """Height and width."""
    return len(rows), len(rows[0])


def build(height: int, width: int, colour: Callable[[int, int], int]) -> Rows:
    """The grid whose cell (y, x) has colour(y, x)."""
    return [[colour(y, x) for x in range(width)] for y in range(height)]


def redone(rows: Rows, colour: Callable[[int, int], int]) -> Rows:
    """A grid of the same size whose cell (y, x) has colour(y, x)."""
    return build(*size(rows), colour)


def at(rows: Rows, y: int, x: int) -> int:
    """The colour of a cell; 0 outside the grid."""
    return rows[y][x] if 0 <= y < len(rows) and 0 <= x < len(rows[0]) else 0


def painted(rows: Rows, colour: int | None = None) -> Cells:
    """The cells that are not 0, or those of one colour."""
    cells = {(y, x): c for y, row in enumerate(rows) for x, c in enumerate(row)}
    return {cell: c for cell, c in cells.items() if (c if colour is None else c == colour)}


def repainted(rows: Rows, change: Mapping[Cell, int]) -> Rows:
    """The grid with other colours in some cells."""
    return redone(rows, lambda y, x: change.get((y, x), rows[y][x]))


def turned(rows: Rows) -> Rows:
    """Rows become columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def crossings(rows: Rows, line: int) -> list[int]:
    """The rows that a line of one colour fills."""
    return [y for y, row in enumerate(rows) if set(row) == {line}]


def window(cells: Iterable[Cell]) -> tuple[range, range]:
    """The rows and columns that some cells reach over. Raises ValueError where there are none."""
    ys, xs = {y for y, _ in cells}, {x for _, x in cells}
    return range(min(ys), max(ys) + 1), range(min(xs), max(xs) + 1)


def cut(rows: Rows, ys: Iterable[int], xs: Iterable[int]) -> Rows:
    """Some rows and columns."""
    columns = list(xs)
    return [[rows[y][x] for x in columns] for y in ys]


def objects(rows: Rows, same_colour: bool = False) -> list[Cells]:
    """Painted cells in groups that touch by sides or corners, in reading order of their first cells.

    A cell joins all groups that it touches, and makes them one.
    """
    groups: list[Cells] = []
    for (y, x), colour in painted(rows).items():
        near = {(y + dy, x + dx) for dy, dx in AROUND}
        touched = [g for g in groups if any(c in near and (not same_colour or g[c] == colour) for c in g)]
        joined: Cells = {cell: c for group in touched for cell, c in group.items()} | {(y, x): colour}
        groups = [g for g in groups if not any(g is t for t in touched)] + [dict(sorted(joined.items()))]
    return sorted(groups, key=min)


def picture(cells: Cells) -> Rows:
    """An object in its window, 0 around it."""
    ys, xs = window(cells)
    return [[cells.get((y, x), 0) for x in xs] for y in ys]


def outline(cells: Cells) -> frozenset[Cell]:
    """The same for objects of one shape, whatever their colours and places."""
    ys, xs = window(cells)
    return frozenset((y - ys.start, x - xs.start) for y, x in cells)


def walk(start: Iterable[Cell], may: Callable[[int, int], bool]) -> set[Cell]:
    """All cells that can be walked to over sides, through cells that may be entered; allowed starts included."""
    waiting = [cell for cell in start if may(*cell)]
    seen = set(waiting)
    while waiting:
        y, x = waiting.pop()
        for dy, dx in SIDES:
            cell = (y + dy, x + dx)
            if cell not in seen and may(*cell):
                seen.add(cell)
                waiting.append(cell)
    return seen


def edge(rows: Rows) -> list[Cell]:
    """The cells of the outer ring."""
    height, width = size(rows)
    return [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]


def outside(rows: Rows) -> set[Cell]:
    """Empty cells from which a way over empty cells leads to the outer ring."""
    height, width = size(rows)
    return walk(edge(rows), lambda y, x: 0 <= y < height and 0 <= x < width and rows[y][x] == 0)


def enclosed(rows: Rows) -> set[Cell]:
    """Empty cells from which none does."""
    free = outside(rows)
    return {cell for cell in painted([[int(c == 0) for c in row] for row in rows]) if cell not in free}


def first_seen(rows: Rows, y: int, x: int, dy: int, dx: int) -> int:
    """The first colour that is not 0 on the way from a cell, itself left out; 0 where there is none."""
    y, x = y + dy, x + dx
    while 0 <= y < len(rows) and 0 <= x < len(rows[0]):
        if rows[y][x]:
            return rows[y][x]
        y, x = y + dy, x + dx
    return 0


def top(values: Iterable[T], key: Callable[[T], int]) -> T:
    """The only value with the largest key. Raises ValueError where it is not alone."""
    known = list(values)
    (best,) = [value for value in known if key(value) == max(key(other) for other in known)]
    return best


def counts(rows: Rows) -> dict[int, int]:
    """How many cells each colour but 0 has."""
    cells = list(painted(rows).values())
    return {colour: cells.count(colour) for colour in set(cells)}


def require(holds: bool) -> None:
    """Raises ValueError: the rule has no answer for this input."""
    if not holds:
        raise ValueError("the rule has no answer for this input")
