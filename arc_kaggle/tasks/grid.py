"""The grid: 1..30 x 1..30 cells, int8 colours 0..9, shape (height, width). One contract, checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.errors import GridError

Grid = NDArray[np.int8]
"""A read-only int8 array of colours 0..9, shape (height, width)."""

MAX_SIDE = 30
N_COLOURS = 10


def as_grid(value: Any, where: str = "grid") -> Grid:
    """Check nested lists or an array against the grid contract.

    Returns a read-only int8 copy, shape (height, width). Raises GridError, whose message begins with `where`.
    """
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    _check_side(rows, where, "rows")
    width = len(rows[0]) if isinstance(rows[0], (list, tuple)) else None
    for y, row in enumerate(rows):
        if type(row) is list and len(row) == width and _is_fine(row):
            continue  # nearly always: no message is made for nothing
        _check_side(row, f"{where}, row {y}", "cells")
        if len(row) != width:
            raise GridError(f"{where}, row {y}: found {len(row)} cells, expected {width} as in row 0")
        if not _is_fine(row):
            _refuse_cell(row, f"{where}, row {y}")
    return np.frombuffer(b"".join(map(bytes, rows)), dtype=np.int8).reshape(len(rows), -1)  # read-only, as bytes are


def _is_fine(row: Sequence[Any]) -> bool:
    return 1 <= len(row) <= MAX_SIDE and set(map(type, row)) == {int} and min(row) >= 0 and max(row) < N_COLOURS


def _refuse_cell(row: Sequence[Any], where: str) -> NoReturn:
    for x, cell in enumerate(row):
        if type(cell) is not int or not 0 <= cell < N_COLOURS:
            kind = type(cell).__name__
            raise GridError(f"{where}, column {x}: found {cell!r:.40} ({kind}), expected an integer 0..9")
    raise AssertionError("a row without a wrong cell")


def _check_side(value: Any, where: str, unit: str) -> None:
    if not isinstance(value, (list, tuple)):
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
