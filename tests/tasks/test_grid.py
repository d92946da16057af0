"""The grid contract: what is a grid, and what the error says about a value that is not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import TASK_JSON, WriteJson, grids, small_task

from arc_kaggle.errors import GridError
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import Grid, as_grid, grid_key, grid_lists, same_grid
from arc_kaggle.tasks.task import with_solutions

INTEGER = "expected an integer 0..9"
WRONG_GRIDS = [
    pytest.param([[0], [True]], f", row 1, column 0: found True (bool), {INTEGER}", id="bool"),
    pytest.param([[0, 1.0]], f", row 0, column 1: found 1.0 (float), {INTEGER}", id="float"),
    pytest.param([["1"]], f", row 0, column 0: found '1' (str), {INTEGER}", id="string"),
    pytest.param([[None]], f", row 0, column 0: found None (NoneType), {INTEGER}", id="null"),
    pytest.param([[-1]], f", row 0, column 0: found -1 (int), {INTEGER}", id="negative"),
    pytest.param([[0, 1], [2, 10]], f", row 1, column 1: found 10 (int), {INTEGER}", id="ten"),
    pytest.param([[256]], f", row 0, column 0: found 256 (int), {INTEGER}", id="wraps-to-0"),
    pytest.param([[[1]]], f", row 0, column 0: found [1] (list), {INTEGER}", id="too-deep"),
    pytest.param([["x" * 1000]], f", row 0, column 0: found '{'x' * 39} (str), {INTEGER}", id="long-cell"),
    pytest.param([[1, 2], [3]], ", row 1: found 1 cells, expected 2 as in row 0", id="ragged"),
    pytest.param([], ": found 0 rows, expected 1..30", id="no-rows"),
    pytest.param([[]], ", row 0: found 0 cells, expected 1..30", id="no-cells"),
    pytest.param([[0]] * 31, ": found 31 rows, expected 1..30", id="31-rows"),
    pytest.param([[0] * 31], ", row 0: found 31 cells, expected 1..30", id="31-columns"),
    pytest.param([1, 2], ", row 0: found int, expected a list of 1..30 cells", id="flat"),
    pytest.param([[1], "2"], ", row 1: found str, expected a list of 1..30 cells", id="row-is-text"),
    pytest.param("12", ": found str, expected a list of 1..30 rows", id="text"),
    pytest.param({"0": [1]}, ": found dict, expected a list of 1..30 rows", id="object"),
    pytest.param(7, ": found int, expected a list of 1..30 rows", id="number"),
]
NOT_JSON = [
    pytest.param([[float("nan")]], f", row 0, column 0: found nan (float), {INTEGER}", id="nan"),
    pytest.param(np.array([[True]]), f", row 0, column 0: found True (bool), {INTEGER}", id="bool-array"),
    pytest.param(np.array([[1.0]]), f", row 0, column 0: found 1.0 (float), {INTEGER}", id="float-array"),
    pytest.param(np.array([1]), ", row 0: found int, expected a list of 1..30 cells", id="1d-array"),
    pytest.param(np.array(1), ": found int, expected a list of 1..30 rows", id="0d-array"),
    pytest.param(np.zeros((1, 1, 1), int), f", row 0, column 0: found [0] (list), {INTEGER}", id="3d-array"),
    pytest.param({1, 2}, ": found set, expected a list of 1..30 rows", id="set"),
    pytest.param(None, ": found NoneType, expected a list of 1..30 rows", id="none"),
]


@pytest.mark.parametrize(("value", "problem"), WRONG_GRIDS + NOT_JSON)
def test_error_names_the_place_what_was_found_and_what_was_expected(value: Any, problem: str) -> None:
    with pytest.raises(GridError) as caught:
        as_grid(value, "somewhere")
    assert str(caught.value) == "somewhere" + problem


@pytest.mark.parametrize(("value", "problem"), WRONG_GRIDS)
@pytest.mark.parametrize(
    ("part", "index", "side"),
    [("train", 0, "input"), ("train", 1, "output"), ("test", 0, "input"), ("test", 0, "output")],
)
def test_error_of_a_file_names_file_task_pair_side_and_cell(
    write_json: WriteJson, part: str, index: int, side: str, value: Any, problem: str
) -> None:
    task = json.loads(json.dumps(TASK_JSON))
    task[part][index][side] = value
    path = write_json("puzzles.json", {"007bbfb7": task})
    with pytest.raises(GridError) as caught:
        load_tasks(path)
    assert str(caught.value) == f"puzzles.json: task 007bbfb7, {part} pair {index}, {side}{problem}"


@pytest.mark.parametrize(("value", "problem"), WRONG_GRIDS)
def test_error_names_the_solution(value: Any, problem: str) -> None:
    with pytest.raises(GridError) as caught:
        with_solutions(small_task().test, [value], "puzzles.json: task 007bbfb7")
    assert str(caught.value) == f"puzzles.json: task 007bbfb7, solution 0{problem}"


@pytest.mark.parametrize(
    "value",
    [[[1, 2, 3]], ((1, 2, 3),), np.array([[1, 2, 3]]), np.array([[1, 2, 3]], np.uint8), np.array([[1, 2, 3]], ">i8")],
)
def test_lists_tuples_and_integer_arrays_are_grids(value: Any) -> None:
    grid = as_grid(value)
    assert grid.dtype == np.int8
    assert grid.shape == (1, 3)
    assert grid_lists(grid) == [[1, 2, 3]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (30, 30)])
def test_sides_of_1_to_30_are_allowed(shape: tuple[int, int]) -> None:
    assert as_grid(np.zeros(shape, dtype=int)).shape == shape


def test_a_grid_is_a_read_only_copy() -> None:
    source = np.array([[1, 2]])
    grid = as_grid(source)
    source[0, 0] = 9
    assert grid_lists(grid) == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        grid[0, 0] = 3


@given(grids(30))
def test_lists_round_trip_as_json(grid: Grid) -> None:
    assert same_grid(as_grid(json.loads(json.dumps(grid_lists(grid)))), grid)


@given(grids(2, 2), grids(2, 2))
def test_keys_are_equal_exactly_for_equal_grids(a: Grid, b: Grid) -> None:
    equal = grid_lists(a) == grid_lists(b)
    assert (grid_key(a) == grid_key(b)) is equal
    assert same_grid(a, b) is equal


def test_equal_bytes_in_another_shape_are_another_grid() -> None:
    row, column = as_grid([[1, 2, 3, 4]]), as_grid([[1, 2], [3, 4]])
    assert row.tobytes() == column.tobytes()
    assert grid_key(row) != grid_key(column)
    assert not same_grid(row, column)
