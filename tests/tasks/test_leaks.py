"""Pairs are the same rule's exactly when a symmetry and a renaming of colours turn one into the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import augmentations, pairs, small_task, tasks

from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists
from arc_kaggle.tasks.leaks import LeakFinder, _fingerprint, canonical_pair
from arc_kaggle.tasks.task import Pair, Task

COLOURS = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
DISGUISES = [Augmentation(symmetry, COLOURS) for symmetry in range(8)]
INPUT, OUTPUT = as_grid([[0, 1, 2], [0, 0, 1]]), as_grid([[2, 1], [0, 0]])
PAIR = Pair(INPUT, OUTPUT)


def disguised(pair: Pair, augmentation: Augmentation) -> Pair:
    assert pair.output is not None
    return Pair(augmentation.apply(pair.input), augmentation.apply(pair.output))


def with_cell(grid: Grid, y: int, x: int, colour: int) -> Grid:
    cells = np.array(grid)
    cells[y, x] = colour
    return as_grid(cells)


def turns(grid: Grid) -> list[Grid]:
    """The 8 symmetries, written without `Augmentation`."""
    return [turned for k in range(4) for turned in (np.rot90(grid, k), np.fliplr(np.rot90(grid, k)))]


def equivalent(a: Pair, b: Pair) -> bool:
    """The slow definition: some symmetry and some one-to-one renaming turn `a` into `b`."""
    assert a.output is not None
    assert b.output is not None
    target = [*b.input.ravel().tolist(), *b.output.ravel().tolist()]
    for first, second in zip(turns(a.input), turns(a.output), strict=True):
        if (first.shape, second.shape) == (b.input.shape, b.output.shape):
            renaming = set(zip([*first.ravel().tolist(), *second.ravel().tolist()], target, strict=True))
            if len({old for old, _ in renaming}) == len({new for _, new in renaming}) == len(renaming):
                return True
    return False


@given(pairs(30), augmentations())
def test_a_disguise_changes_neither_form_nor_fingerprint(pair: Pair, augmentation: Augmentation) -> None:
    other = disguised(pair, augmentation)
    assert canonical_pair(other) == canonical_pair(pair)
    assert _fingerprint(other) == _fingerprint(pair)


@given(st.data(), pairs(3, 3), augmentations())
def test_one_changed_cell_is_another_pair_exactly_where_no_disguise_explains_it(
    data: st.DataObject, pair: Pair, augmentation: Augmentation
) -> None:
    height, width = pair.input.shape
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    changed = Pair(with_cell(pair.input, y, x, data.draw(st.integers(0, 3))), pair.output)
    other = disguised(changed, augmentation)
    assert (canonical_pair(other) == canonical_pair(pair)) is equivalent(pair, other)


@pytest.mark.parametrize("colour", range(10))
@pytest.mark.parametrize(("side", "y", "x"), [("input", 0, 0), ("input", 1, 2), ("output", 0, 0), ("output", 1, 1)])
def test_one_changed_cell_is_another_pair(side: str, y: int, x: int, colour: int) -> None:
    grid = getattr(PAIR, side)
    changed = with_cell(grid, y, x, colour)
    other = Pair(changed, PAIR.output) if side == "input" else Pair(PAIR.input, changed)
    same = grid_lists(changed) == grid_lists(grid)
    assert (canonical_pair(other) == canonical_pair(PAIR)) is same


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Pair(OUTPUT, INPUT), id="sides-swapped"),
        pytest.param(Pair(INPUT, INPUT), id="another-output"),
        pytest.param(Pair(INPUT, None), id="output-unknown"),
        pytest.param(Pair(INPUT, Augmentation(1).apply(OUTPUT)), id="one-side-turned"),
        pytest.param(Pair(INPUT, Augmentation(0, COLOURS).apply(OUTPUT)), id="one-side-renamed"),
    ],
)
def test_another_relation_of_the_sides_is_another_pair(other: Pair) -> None:
    assert canonical_pair(other) != canonical_pair(PAIR)


def test_equal_cells_in_other_shapes_are_other_pairs() -> None:
    line, square = as_grid([[1, 2, 3, 4]]), as_grid([[1, 2], [3, 4]])
    assert canonical_pair(Pair(line, square)) != canonical_pair(Pair(square, line))
    assert canonical_pair(Pair(line, line)) != canonical_pair(Pair(square, square))


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_pair_is_found(disguise: Augmentation) -> None:
    task = small_task()
    finder = LeakFinder([Task("other", (PAIR,), (PAIR,)), task])
    assert [finder.find(disguised(pair, disguise)) for pair in (*task.train, *task.test)] == ["small"] * 3
    assert finder.find(disguised(PAIR, disguise)) == "other"


@given(tasks(), augmentations())
def test_every_known_pair_of_a_task_is_found(task: Task, augmentation: Augmentation) -> None:
    finder = LeakFinder([task])
    known = [pair for pair in (*task.train, *task.test) if pair.output is not None]
    assert {finder.find(disguised(pair, augmentation)) for pair in known} == {task.id}


def test_a_pair_of_no_known_task_is_not_found() -> None:
    assert LeakFinder([small_task()]).find(PAIR) is None
    assert LeakFinder([]).find(PAIR) is None


def test_a_pair_of_equal_fingerprint_is_not_a_leak() -> None:
    shuffled = Pair(as_grid([[0, 0, 0], [1, 2, 1]]), PAIR.output)
    assert _fingerprint(shuffled) == _fingerprint(PAIR)
    assert LeakFinder([Task("a", (PAIR,), (PAIR,))]).find(shuffled) is None


def test_ids_of_all_tasks_are_known() -> None:
    assert LeakFinder([small_task(), Task("a", (PAIR,), (PAIR,))]).ids == {"small", "a"}


@given(pairs(30), augmentations())
def test_a_pair_whose_input_and_output_changed_places_is_found(pair: Pair, augmentation: Augmentation) -> None:
    assert pair.output is not None
    other = disguised(pair, augmentation)
    assert other.output is not None
    finder = LeakFinder([Task("evaluation", (pair,), ())])
    assert finder.find(Pair(other.output, other.input)) == "evaluation"
