"""Tasks as values, and the JSON objects that hold them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from strategies import TASK_JSON, small_task, tasks

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import grid_lists
from arc_kaggle.tasks.task import Task, task_from_json, task_to_json, with_solutions

PAIR = {"input": [[1]], "output": [[2]]}


@given(tasks())
def test_json_round_trip(task: Task) -> None:
    value = json.loads(json.dumps(task_to_json(task)))
    again = task_from_json(task.id, value)
    assert again.id == task.id
    assert task_to_json(again) == value


def test_read_and_written_exactly() -> None:
    assert task_to_json(small_task()) == TASK_JSON


def test_repr_is_short() -> None:
    assert repr(small_task()) == "<Task small | 2 train | 1 test>"


def test_queries_know_their_input_and_answer() -> None:
    (query,) = small_task().queries
    assert query.index == 0
    assert grid_lists(query.input) == [[5, 6]]
    assert query.answer is not None
    assert grid_lists(query.answer) == [[6], [5]]


@given(tasks())
def test_without_solution_hides_the_test_outputs_and_nothing_else(task: Task) -> None:
    hidden = task.without_solution()
    assert not hidden.has_solution
    assert [query.answer for query in hidden.queries] == [None] * len(task.test)
    assert task_to_json(hidden)["train"] == task_to_json(task)["train"]
    assert all(a.input is b.input for a, b in zip(hidden.test, task.test, strict=True))


@pytest.mark.parametrize("output", [{}, {"output": None}])
def test_a_test_output_may_be_missing_or_null(output: dict[str, None]) -> None:
    task = task_from_json("a", {"train": [PAIR], "test": [PAIR, {"input": [[1]], **output}]})
    assert [pair.output is None for pair in task.test] == [False, True]
    assert not task.has_solution


def test_solutions_fill_the_test_outputs() -> None:
    task = task_from_json("a", {"train": [PAIR], "test": [{"input": [[1]]}, {"input": [[2]], "output": [[4]]}]})
    solved = with_solutions(task.test, [[[3]], [[4]]], "solutions")
    assert [(grid_lists(pair.input), pair.output.tolist()) for pair in solved if pair.output is not None] == [
        ([[1]], [[3]]),
        ([[2]], [[4]]),
    ]


def test_solutions_that_contradict_the_task_are_refused() -> None:
    task = task_from_json("a", {"train": [PAIR], "test": [PAIR, PAIR]})
    with pytest.raises(TaskError, match=r"^s.json: task a, solution 1: differs from the output in the task itself"):
        with_solutions(task.test, [[[2]], [[3]]], "s.json: task a")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1, 2], ': found a list of 2, expected an object with "train" and "test"'),
        (None, ': found None, expected an object with "train" and "test"'),
        ({"train": []}, """: found an object with keys ['train'], expected an object with "train" and "test\""""),
        ({"train": [], "test": [PAIR]}, ": found a list of 0 as 'train', expected a list of one pair or more"),
        (
            {"train": [PAIR], "test": {}},
            ": found an object with keys [] as 'test', expected a list of one pair or more",
        ),
        ({"train": [PAIR, 3], "test": [PAIR]}, ', train pair 1: found 3, expected an object with "input"'),
        ({"train": [PAIR], "test": [[PAIR]]}, ', test pair 0: found a list of 1, expected an object with "input"'),
        (
            {"train": [PAIR], "test": [{"output": [[1]]}]},
            """, test pair 0: found an object with keys ['output'], expected an object with "input\"""",
        ),
        (
            {"train": [{"input": [[1]]}], "test": [PAIR]},
            ", train pair 0: found no output, expected one in every train pair",
        ),
    ],
)
def test_error_names_the_task_the_pair_and_what_was_found(value: Any, problem: str) -> None:
    with pytest.raises(TaskError) as caught:
        task_from_json("007bbfb7", value, where="a.json")
    assert str(caught.value) == f"a.json: task 007bbfb7{problem}"


@pytest.mark.parametrize(
    ("solutions", "found"),
    [([], "a list of 0"), ([[[1]], [[2]]], "a list of 2"), ({"a": 1}, "an object with keys ['a']"), ("12", "'12'")],
)
def test_solutions_must_be_one_grid_a_test_input(solutions: Any, found: str) -> None:
    with pytest.raises(TaskError) as caught:
        with_solutions(small_task().test, solutions, "task a")
    assert str(caught.value) == f"task a: found {found}, expected 1 grids, one a test input"
