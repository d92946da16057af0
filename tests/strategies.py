"""Hypothesis strategies and small values that several test modules use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from arc_kaggle.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.grid import N_COLOURS, Grid, as_grid
from arc_kaggle.task import Pair, Task, task_from_json

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
