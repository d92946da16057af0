"""Every score against a plain computation of its definition, on predictions made by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TASK_JSON, prediction

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.metrics import (
    answer_rank,
    kaggle_score,
    prediction_scores,
    unanswered_reasons,
    voting_accuracy,
)
from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import as_grid, grid_lists
from arc_kaggle.tasks.task import Task, task_from_json

RIGHT, NEAR, WIDE, FAR = [[1, 2], [3, 4]], [[1, 2], [3, 0]], [[1, 2, 3, 4]], [[0, 0], [0, 0]]
Lists = list[list[int]] | None


def task_of(task_id: str, n_queries: int = 1) -> Task:
    """A task whose every answer is RIGHT."""
    return task_from_json(
        task_id, {"train": TASK_JSON["train"], "test": [{"input": [[0]], "output": RIGHT}] * n_queries}
    )


def answers(task_id: str, query: int, *grids: Lists) -> list[Prediction]:
    return [prediction(grid, view, query, task_id) for view, grid in enumerate(grids)]


# What the views said, by (task, query). Outvoted: RIGHT is in third place. Nothing was said about d.
SAID: dict[tuple[str, int], tuple[Lists, ...]] = {
    ("a", 0): (RIGHT, RIGHT, NEAR, None),
    ("b", 0): (NEAR, NEAR, WIDE, WIDE, RIGHT),
    ("b", 1): (None, FAR, RIGHT, FAR),
    ("c", 0): (None, None),
    ("d", 0): (),
    ("e", 0): (RIGHT,),
}
TASKS = [task_of("a"), task_of("b", 2), task_of("c"), task_of("d"), task_of("e")]
PREDICTIONS = {
    task.id: [p for (name, query), said in SAID.items() if name == task.id for p in answers(name, query, *said)]
    for task in TASKS
}
RANKS = {("a", 0): 1, ("b", 0): 3, ("b", 1): 2, ("c", 0): None, ("d", 0): None, ("e", 0): 1}


def cells_right(grid: Lists) -> float:
    if grid is None or [len(row) for row in grid] != [2, 2]:
        return 0.0
    return sum(grid[y][x] == RIGHT[y][x] for y in range(2) for x in range(2)) / 4


def share(said: tuple[Lists, ...], is_so: Callable[[Lists], float]) -> float:
    return sum(map(is_so, said)) / len(said) if said else 0.0


def any_two(said: tuple[Lists, ...]) -> float:
    draws = list(combinations(said, 2)) or [said]
    return sum(RIGHT in draw for draw in draws) / len(draws)


PLAIN: dict[str, Callable[[tuple[str, int], tuple[Lists, ...]], float]] = {
    "accuracy": lambda at, said: share(said, lambda grid: grid == RIGHT),
    "correct_pixels": lambda at, said: share(said, cells_right),
    "correct_size": lambda at, said: share(said, lambda grid: grid is not None and grid != WIDE),
    "unanswered": lambda at, said: share(said, lambda grid: grid is None) if said else 1.0,
    "pass_n": lambda at, said: float(RIGHT in said),
    "vote_1": lambda at, said: float(RANKS[at] == 1),
    "vote_2": lambda at, said: float(RANKS[at] in (1, 2)),
    "random2": lambda at, said: any_two(said),
}


@pytest.mark.parametrize("name", PLAIN)
def test_each_score_is_the_mean_over_queries_of_its_definition(name: str) -> None:
    scores = prediction_scores(PREDICTIONS, TASKS)
    expected = sum(PLAIN[name](at, said) for at, said in SAID.items()) / len(SAID)
    assert scores.keys() == PLAIN.keys()
    assert scores[name].mean == pytest.approx(expected, abs=1e-12)


def test_the_rank_of_the_answer() -> None:
    found = {
        (q.task.id, q.index): answer_rank(q, answers(q.task.id, q.index, *SAID[q.task.id, q.index]))
        for task in TASKS
        for q in task.queries
    }
    assert found == RANKS


@given(st.lists(st.sampled_from([RIGHT, NEAR, None]), max_size=9))
def test_random2_is_the_share_of_all_pairs_that_hold_the_answer(said: list[Lists]) -> None:
    score = prediction_scores({"a": answers("a", 0, *said)}, [task_of("a")])["random2"]
    assert score.mean == pytest.approx(any_two(tuple(said)))


def test_voting_accuracy_is_what_the_vote_keeps() -> None:
    assert voting_accuracy(prediction_scores(PREDICTIONS, TASKS)) == pytest.approx(3 / 4)
    assert voting_accuracy(prediction_scores({}, TASKS)) is None


def test_reasons_are_counted() -> None:
    assert unanswered_reasons(PREDICTIONS) == {"no_end": 4}


def attempts(first: Any, second: Any) -> tuple[Any, Any]:
    return as_grid(first), as_grid(second)


def test_kaggle_counts_test_outputs_not_tasks() -> None:
    some = [task_of("a"), task_of("b", 3)]
    given_attempts = {
        "a": [attempts(RIGHT, FAR)],
        "b": [attempts(FAR, RIGHT), attempts(NEAR, WIDE), attempts(RIGHT, RIGHT)],
    }
    assert kaggle_score(given_attempts, some).mean == 3 / 4
    assert kaggle_score({**given_attempts, "a": [attempts(NEAR, FAR)]}, some).mean == 2 / 4
    by_hand = [
        any(grid_lists(attempt) == RIGHT for attempt in pair) for pairs in given_attempts.values() for pair in pairs
    ]
    assert kaggle_score(given_attempts, some).mean == sum(by_hand) / len(by_hand)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=3), min_size=1, max_size=12))
def test_the_interval_is_reproducible_and_holds_the_mean(solved: list[list[bool]]) -> None:
    some = [task_of(str(i), len(queries)) for i, queries in enumerate(solved)]
    given_attempts = {
        str(i): [attempts(RIGHT if right else FAR, NEAR) for right in queries] for i, queries in enumerate(solved)
    }
    score = kaggle_score(given_attempts, some)
    flat = [right for queries in solved for right in queries]
    assert score.mean == pytest.approx(sum(flat) / len(flat))
    assert 0 <= score.low <= score.mean + 1e-12 and score.mean - 1e-12 <= score.high <= 1
    assert score == kaggle_score(given_attempts, some)


def test_the_interval_is_about_two_standard_errors_of_the_tasks() -> None:
    some = [task_of(str(i)) for i in range(100)]
    score = kaggle_score({str(i): [attempts(RIGHT if i < 20 else FAR, NEAR)] for i in range(100)}, some)
    assert score.mean == 0.2
    assert (score.low, score.high) == (pytest.approx(0.2 - 1.96 * 0.04, abs=0.02), pytest.approx(0.278, abs=0.02))
    assert str(score).startswith("20.0% (1")


def test_queries_of_one_task_are_drawn_together() -> None:
    together = kaggle_score(
        {"0": [attempts(RIGHT, FAR)] * 50, "1": [attempts(FAR, FAR)] * 50},
        [
            task_of("0", 50),
            task_of("1", 50),
        ],
    )
    assert (together.low, together.mean, together.high) == (0, 0.5, 1)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(TaskError, match="found no task, expected one or more"):
        kaggle_score({}, [])
    with pytest.raises(TaskError, match="task a, query 0: no solution is known"):
        kaggle_score({"a": [attempts(RIGHT, FAR)]}, [task_of("a").without_solution()])
