"""The grid: 1..30 x 1..30 cells, int8 colours 0..9, shape (height, width). One contract, checked in one place."""

from __future__ import annotations

from itertools import chain
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.errors import GridError

Grid = NDArray[np.int8]
"""A read-only int8 array of colours 0..9, shape (height, width)."""

MAX_SIDE = 30
N_COLOURS = 10
COLOURS = bytes(range(N_COLOURS))
LISTS = {list, tuple}


def as_grid(value: Any, where: str = "grid") -> Grid:
    """Check nested lists or an array against the grid contract.

    Returns a read-only int8 copy, shape (height, width). Raises GridError, whose message begins with `where`.
    """
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    cells = _cells(rows)
    if cells is None:
        _refuse(rows, where)
    return np.frombuffer(cells, dtype=np.int8).reshape(len(rows), -1)  # read-only, as bytes are


def _cells(rows: Any) -> bytes | None:
    """The cells of a grid, row by row; None where it breaks the contract. No Python code runs for each row or cell."""
    if type(rows) not in LISTS or not set(map(type, rows)) <= LISTS:
        return None
    widths = set(map(len, rows))
    if len(widths) != 1 or not (1 <= len(rows) <= MAX_SIDE and 1 <= min(widths) <= MAX_SIDE):
        return None
    if set(map(type, chain.from_iterable(rows))) != {int}:
        return None
    try:
        cells = b"".join(map(bytes, rows))
    except (ValueError, OverflowError):  # a cell that is no byte
        return None
    return None if cells.translate(None, COLOURS) else cells


def _refuse(rows: Any, where: str) -> NoReturn:
    """Raise GridError that names the first row or cell that is wrong."""
    _check_side(rows, where, "rows")
    for y, row in enumerate(rows):
        _check_side(row, f"{where}, row {y}", "cells")
        if len(row) != len(rows[0]):
            raise GridError(f"{where}, row {y}: found {len(row)} cells, expected {len(rows[0])} as in row 0")
        for x, cell in enumerate(row):
            if type(cell) is not int or not 0 <= cell < N_COLOURS:
                kind = type(cell).__name__
                raise GridError(f"{where}, row {y}, column {x}: found {cell!r:.40} ({kind}), expected an integer 0..9")
    raise AssertionError("a grid without a fault")


def _check_side(value: Any, where: str, unit: str) -> None:
    if type(value) not in LISTS:
        raise GridError(f"{where}: found {type(value).__name__}, expected a list of 1..{MAX_SIDE} {unit}")
    if not 1 <= len(value) <= MAX_SIDE:
        raise GridError(f"{where}: found {len(value)} {unit}, expected 1..{MAX_SIDE}")


def grid_key(grid: Grid) -> tuple[int, bytes]:
    """A hashable value that is equal exactly for equal grids."""
    return grid.shape[1], grid.tobytes()


def same_grid(a: Grid, b: Grid) -> bool:
    """All cells right, or nothing."""
    return a.shape == b.shape and bool((a == b).all())


def grid_lists(grid: Grid) -> list[list[int]]:
    """Rows of plain integers, as in Kaggle's JSON."""
    lists: list[list[int]] = grid.tolist()
    return lists
