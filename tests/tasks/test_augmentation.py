"""Laws of augmentations: invertible, a group of 8 symmetries, evenly spread, and decided by the seed alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import augmentations, grids, small_task, tasks

from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.augmentation import (
    N_SYMMETRIES,
    SAME_COLOURS,
    Augmentation,
    sample_augmentation,
    spread_augmentations,
)
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists, same_grid
from arc_kaggle.tasks.task import Task, task_to_json

ASYMMETRIC = as_grid([[0, 1, 2], [3, 4, 5]])
SYMMETRIES = [Augmentation(symmetry) for symmetry in range(N_SYMMETRIES)]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(grids(30), augmentations())
def test_invert_undoes_apply(grid: Grid, augmentation: Augmentation) -> None:
    assert same_grid(augmentation.invert(augmentation.apply(grid)), grid)
    assert same_grid(augmentation.apply(augmentation.invert(grid)), grid)


@given(grids(), augmentations())
def test_what_is_applied_or_inverted_is_a_grid(grid: Grid, augmentation: Augmentation) -> None:
    for seen in (augmentation.apply(grid), augmentation.invert(grid)):
        assert seen.dtype == np.int8
        assert seen.flags.c_contiguous
        assert same_grid(as_grid(seen), seen)


@given(st.data(), tasks())
def test_a_view_inverts_to_its_task(data: st.DataObject, task: Task) -> None:
    augmentation = data.draw(augmentations(len(task.train)))
    view = augmentation.apply_task(task)
    assert view.id == task.id
    assert augmentation.order is not None
    expected = (*(task.train[i] for i in augmentation.order), *task.test)
    for seen, pair in zip((*view.train, *view.test), expected, strict=True):
        assert same_grid(augmentation.invert(seen.input), pair.input)
        assert (seen.output is None) is (pair.output is None)
        if seen.output is not None and pair.output is not None:
            assert same_grid(augmentation.invert(seen.output), pair.output)


@given(tasks())
def test_the_plain_augmentation_leaves_a_task_as_it_is(task: Task) -> None:
    assert task_to_json(Augmentation().apply_task(task)) == task_to_json(task)


@pytest.mark.parametrize(
    ("symmetry", "expected"),
    [
        (0, [[0, 1, 2], [3, 4, 5]]),
        (1, [[2, 5], [1, 4], [0, 3]]),
        (2, [[5, 4, 3], [2, 1, 0]]),
        (3, [[3, 0], [4, 1], [5, 2]]),
        (4, [[0, 3], [1, 4], [2, 5]]),
        (5, [[3, 4, 5], [0, 1, 2]]),
        (6, [[5, 2], [4, 1], [3, 0]]),
        (7, [[2, 1, 0], [5, 4, 3]]),
    ],
)
def test_each_symmetry_exactly(symmetry: int, expected: list[list[int]]) -> None:
    assert grid_lists(Augmentation(symmetry).apply(ASYMMETRIC)) == expected


def test_the_symmetries_form_a_group_of_eight() -> None:
    seen = [grid_lists(symmetry.apply(ASYMMETRIC)) for symmetry in SYMMETRIES]
    table = [[seen.index(grid_lists(b.apply(a.apply(ASYMMETRIC)))) for b in SYMMETRIES] for a in SYMMETRIES]
    assert table[0] == [row[0] for row in table] == list(range(8))  # 0 is neutral
    assert all(sorted(row) == list(range(8)) for row in [*table, *zip(*table, strict=True)])  # all can be undone
    orders = [next(n for n in range(1, 9) if _power(table, a, n) == 0) for a in range(8)]
    assert sorted(orders) == [1, 2, 2, 2, 2, 2, 4, 4]  # of the square, and of no other group of eight


def _power(table: list[list[int]], a: int, n: int) -> int:
    result = 0
    for _ in range(n):
        result = table[result][a]
    return result


def test_colours_say_what_each_colour_becomes() -> None:
    colours = (0, 2, 1, 3, 4, 5, 6, 7, 9, 8)
    assert grid_lists(Augmentation(0, colours).apply(as_grid([[0, 1, 2, 8]]))) == [[0, 2, 1, 9]]


def test_order_says_which_train_pair_comes_where() -> None:
    view = Augmentation(order=(1, 0)).apply_task(small_task())
    assert [grid_lists(pair.input) for pair in view.train] == [[[3]], [[1, 2]]]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"symmetry": 8}, "found symmetry 8, expected 0..7"),
        ({"symmetry": -1}, "found symmetry -1, expected 0..7"),
        ({"colours": (0, 1)}, r"found colours \(0, 1\), expected a permutation of 0..9"),
        ({"colours": (0,) * 10}, r"found colours \(0, .*, expected a permutation of 0..9"),
        ({"order": (1, 2)}, r"found order \(1, 2\), expected a permutation of 0..n-1"),
        ({"order": (0, 0)}, r"found order \(0, 0\), expected a permutation of 0..n-1"),
    ],
)
def test_a_wrong_augmentation_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^augmentation: {problem}"):
        Augmentation(**fields)


@pytest.mark.parametrize("order", [(), (0,), (2, 1, 0)])
def test_an_order_of_another_length_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"^task small: an order of {len(order)} for 2 train pairs"):
        Augmentation(order=order).apply_task(small_task())


@given(st.none() | st.integers(1, 6), st.data())
def test_json_round_trip(n_train: int | None, data: st.DataObject) -> None:
    augmentation = data.draw(augmentations(n_train))
    assert Augmentation.from_json(json.loads(json.dumps(augmentation.to_json()))) == augmentation


@given(st.integers(0, 100), st.integers(0, 2**32))
def test_views_are_spread_evenly_over_the_symmetries(n_views: int, seed: int) -> None:
    spread = list(spread_augmentations(n_views, rng(seed), 3))
    counts = [sum(view.symmetry == symmetry for view in spread) for symmetry in range(N_SYMMETRIES)]
    assert sum(counts) == n_views
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 10), st.integers(0, 2**32))
def test_the_first_view_is_the_task_itself_and_the_others_are_shuffled(n_views: int, seed: int) -> None:
    first, *others = spread_augmentations(n_views, rng(seed), 4)
    assert first == Augmentation()
    assert all(sorted(view.order or ()) == [0, 1, 2, 3] for view in others)


@given(st.integers(0, 2**32))
def test_equal_seeds_give_equal_views(seed: int) -> None:
    assert list(spread_augmentations(9, rng(seed), 3)) == list(spread_augmentations(9, rng(seed), 3))
    assert sample_augmentation(rng(seed), 3) == sample_augmentation(rng(seed), 3)


def test_another_seed_gives_other_views() -> None:
    assert list(spread_augmentations(9, rng(0), 3)) != list(spread_augmentations(9, rng(1), 3))


def test_fewer_views_are_the_first_of_more() -> None:
    assert list(spread_augmentations(5, rng(), 3)) == list(spread_augmentations(20, rng(), 3))[:5]


@pytest.mark.parametrize(("keep_background", "share"), [(1.0, 1.0), (0.9, 0.91), (0.5, 0.55), (0.0, 0.1)])
def test_the_background_is_kept_by_choice_or_else_one_time_in_ten(keep_background: float, share: float) -> None:
    generator = rng()
    draws = [sample_augmentation(generator, 2, keep_background) for _ in range(3000)]
    kept = sum(draw.colours[0] == 0 for draw in draws) / len(draws)
    assert kept == pytest.approx(share, abs=0.03 if keep_background < 1 else 0)


def test_draws_are_even_over_symmetries_colours_and_orders() -> None:
    generator = rng()
    draws = [sample_augmentation(generator, 2, keep_background=1.0) for _ in range(3000)]
    for colour in range(1, 10):
        assert sum(draw.colours[1] == colour for draw in draws) == pytest.approx(3000 / 9, abs=80)
    for symmetry in range(N_SYMMETRIES):
        assert sum(draw.symmetry == symmetry for draw in draws) == pytest.approx(3000 / 8, abs=80)
    assert sum(draw.order == (0, 1) for draw in draws) == pytest.approx(1500, abs=120)


@pytest.mark.parametrize("symmetry", range(N_SYMMETRIES))
def test_a_symmetry_can_be_given(symmetry: int) -> None:
    assert sample_augmentation(rng(), 3, symmetry=symmetry).symmetry == symmetry


def test_the_plain_colours_are_the_first_of_all() -> None:
    assert Augmentation().colours == SAME_COLOURS == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
