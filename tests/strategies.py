"""Hypothesis strategies and small values that several test modules use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.tasks.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.tasks.grid import N_COLOURS, Grid, as_grid
from arc_kaggle.tasks.task import Pair, Task, task_from_json

WriteJson = Callable[[str, Any], Path]
"""The `write_json` fixture: name and value -> path."""

TASK_JSON: dict[str, Any] = {
    "train": [{"input": [[1, 2]], "output": [[2], [1]]}, {"input": [[3]], "output": [[4, 4]]}],
    "test": [{"input": [[5, 6]], "output": [[6], [5]]}],
}


def small_task() -> Task:
    """Two train pairs and one test pair, with its solution."""
    return task_from_json("small", TASK_JSON)


def grids(max_side: int = 6, n_colours: int = N_COLOURS) -> st.SearchStrategy[Grid]:
    sides = st.integers(1, max_side)
    cells = st.integers(0, n_colours - 1)
    return st.tuples(sides, sides).flatmap(lambda shape: arrays(np.int8, shape, elements=cells)).map(as_grid)


def pairs(max_side: int = 6, n_colours: int = N_COLOURS) -> st.SearchStrategy[Pair]:
    return st.builds(Pair, grids(max_side, n_colours), grids(max_side, n_colours))


def tasks(max_side: int = 4) -> st.SearchStrategy[Task]:
    """Tasks of 1..4 train and 1..2 test pairs; some test outputs are not known."""
    tests = st.builds(Pair, grids(max_side), st.none() | grids(max_side))
    ids = st.text("0123456789abcdef", min_size=8, max_size=8)
    train = st.lists(pairs(max_side), min_size=1, max_size=4).map(tuple)
    return st.builds(Task, ids, train, st.lists(tests, min_size=1, max_size=2).map(tuple))


def augmentations(n_train: int | None = None) -> st.SearchStrategy[Augmentation]:
    """All symmetries and colour permutations; an order of the train pairs where their number is given."""
    colours = st.permutations(range(N_COLOURS)).map(tuple)
    orders = st.none() if n_train is None else st.permutations(range(n_train)).map(tuple)
    return st.builds(Augmentation, st.integers(0, N_SYMMETRIES - 1), colours, orders)


def prediction(
    grid: list[list[int]] | None,
    view: int = 0,
    query: int = 0,
    task_id: str = "small",
    log_prob: float = -1.0,
    n_tokens: int = 10,
) -> Prediction:
    """What a view gave; without a grid it has the reason `no_end`."""
    found, reason = (None, "no_end") if grid is None else (as_grid(grid), None)
    return Prediction(task_id, query, view, Augmentation(), "", found, reason, log_prob, n_tokens)


def predictions() -> st.SearchStrategy[Prediction]:
    """Any predictions of any views, of tasks with plain ids."""
    answers = st.tuples(grids(), st.none()) | st.tuples(st.none(), st.sampled_from(["no_end", "ragged", "deadline"]))
    log_probs = st.floats(max_value=0, allow_nan=False, allow_infinity=False)
    counts = st.integers(0, 99)
    return answers.flatmap(
        lambda answer: st.builds(
            Prediction,
            st.text("0123456789abcdef", min_size=8, max_size=8),
            *(counts, counts, augmentations(n_train=3), st.text(), st.just(answer[0]), st.just(answer[1])),
            *(log_probs, counts),
        )
    )
