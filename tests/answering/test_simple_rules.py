"""Fallback grids: rules that hold for all train pairs, guesses of the right size, and always two that differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import tasks

from arc_kaggle.answering.simple_rules import fallback_grids
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import as_grid, grid_lists, same_grid
from arc_kaggle.tasks.task import Query, Task, task_from_json

Cells = list[list[int]]


def query_of(pairs: list[tuple[Cells, Cells]], asked: Cells) -> Query:
    train = [{"input": given, "output": output} for given, output in pairs]
    return next(task_from_json("a", {"train": train, "test": [{"input": asked}]}).queries)


def first_of(pairs: list[tuple[Cells, Cells]], asked: Cells) -> Cells:
    return grid_lists(fallback_grids(query_of(pairs, asked))[0])


A, B, ASKED = [[1, 2, 3], [4, 0, 0]], [[5, 0, 6], [0, 7, 8]], [[9, 8, 7], [0, 0, 1]]


def by(rule: Any) -> tuple[list[tuple[Cells, Cells]], Cells]:
    """Two train pairs of a rule, and what it makes of ASKED."""
    made = [grid_lists(as_grid(rule(np.array(given)))) for given in (A, B, ASKED)]
    return [(A, made[0]), (B, made[1])], made[2]


@pytest.mark.parametrize(
    "rule",
    [
        lambda g: g,
        np.rot90,
        lambda g: g.T,
        lambda g: np.full((2, 2), 3),
        lambda g: np.kron(g, np.ones((2, 3), dtype=int)),
        lambda g: np.kron((g != 0).astype(int), g),
        lambda g: np.hstack([g, g[:, ::-1]]),
        lambda g: np.vstack([g[::-1], g, np.zeros_like(g)]),
        lambda g: g[:, 2:],
        lambda g: g[1:, 1:2],
    ],
)
def test_a_rule_that_holds_for_all_train_pairs_is_used(rule: Any) -> None:
    pairs, answer = by(rule)
    assert first_of(pairs, ASKED) == answer


@pytest.mark.parametrize(
    ("pairs", "asked", "answer"),
    [
        ([([[1, 2]], [[3, 4]]), ([[2, 2]], [[4, 4]])], [[2, 1], [5, 1]], [[4, 3], [5, 3]]),
        ([([[0, 0, 0], [0, 1, 2]], [[1, 2]]), ([[0, 3], [0, 0]], [[3]])], [[0, 0], [4, 0], [5, 0]], [[4], [5]]),
        ([([[1, 1, 2], [3, 3, 2]], [[1, 2], [3, 2]]), ([[4, 4, 4]], [[4]])], [[7, 8, 8], [7, 8, 8]], [[7, 8]]),
        ([([[1, 5, 2]], [[2]]), ([[3, 4, 5, 6, 7]], [[6, 7]])], [[1, 2, 5, 3, 4]], [[3, 4]]),
    ],
)
def test_colours_boxes_repetitions_and_panels(pairs: Any, asked: Cells, answer: Cells) -> None:
    assert first_of(pairs, asked) == answer


def test_a_rule_that_fails_one_train_pair_is_not_used() -> None:
    pairs, answer = by(np.rot90)
    pairs[1][1][1][0] = 9  # where the other 0 stays 0
    assert answer not in map(grid_lists, fallback_grids(query_of(pairs, ASKED)))


@pytest.mark.parametrize(
    ("pairs", "asked", "guesses"),
    [
        # sizes stay: what most cells of a colour become, then the input
        ([([[1, 1, 1]], [[2, 2, 1]]), ([[1, 3]], [[2, 1]])], [[1, 3]], [[[2, 1]], [[1, 3]]]),
        # all outputs of one size: the commonest colour of each cell
        ([([[1]], [[1, 2]]), ([[1, 1]], [[1, 3]]), ([[2]], [[4, 3]])], [[5, 5]], [[[1, 3]]]),
        # sizes in one ratio: the commonest colour
        ([([[1]], [[7, 7]]), ([[1, 2]], [[7, 7, 7, 5]])], [[1], [2]], [[[7, 7], [7, 7]]]),
    ],
)
def test_without_a_rule_the_size_is_guessed(pairs: Any, asked: Cells, guesses: list[Cells]) -> None:
    assert list(map(grid_lists, fallback_grids(query_of(pairs, asked))))[: len(guesses)] == guesses


@given(tasks())
def test_there_are_always_two_valid_grids_that_differ(task: Task) -> None:
    for query in task.queries:
        grids = fallback_grids(query)
        assert len(grids) >= 2
        assert not any(same_grid(a, b) for i, a in enumerate(grids) for b in grids[:i])
        assert all(same_grid(as_grid(grid), grid) for grid in grids)


def test_what_would_be_larger_than_a_grid_is_left_out() -> None:
    pairs, _ = by(lambda g: np.kron(g, np.ones((4, 4), dtype=int)))
    assert max(max(grid.shape) for grid in fallback_grids(query_of(pairs, [[1] * 20]))) <= 30


def test_answers_are_not_looked_at() -> None:
    task = load_tasks("arc1:training", "0:1")[0]
    with_answer, without = (next(each.queries) for each in (task, task.without_solution()))
    assert list(map(grid_lists, fallback_grids(with_answer))) == list(map(grid_lists, fallback_grids(without)))


def test_it_is_better_than_a_single_cell_on_training_tasks() -> None:
    """The first 60; benchmarks/fallback.py has them all: 42 of 416 solved, 88% of the right size."""
    queries = [query for task in load_tasks("arc1:training", "0:60") for query in task.queries]
    solved = right_size = 0
    for query in queries:
        answer, attempts = query.answer, fallback_grids(query)[:2]
        assert answer is not None
        solved += any(same_grid(grid, answer) for grid in attempts)
        right_size += any(grid.shape == answer.shape for grid in attempts)
    assert solved >= 5
    assert right_size > 0.75 * len(queries)
