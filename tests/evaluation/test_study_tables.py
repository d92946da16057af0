"""Tables of studies: from predictions to scores by row, and what a paired difference shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from strategies import prediction

from arc_kaggle.evaluation.study.reading import (
    SIZE_NAMES,
    Answers,
    facts_of_run,
    family_of,
    read_kinds,
    read_sizes,
    read_views,
    read_ways,
)
from arc_kaggle.evaluation.study.study import in_order
from arc_kaggle.evaluation.study.table import StudyRow, as_csv, bases_of, markdown
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Query, Task

# Readings -------------------------------------------------------------------------------------------------------------

RIGHT, WRONG, OTHER = [[1, 2]], [[1, 3]], [[5]]
QUERY = Query(
    Task("t", (Pair(as_grid([[1]]), as_grid([[2]])),) * 2, (Pair(as_grid([[0]]), as_grid(RIGHT)),)),
    0,
)


def answers(*grids: Any, **options: Any) -> Answers:
    found = [prediction(each, view, 0, "t") for view, each in enumerate(grids)]
    return Answers(QUERY, found, options.get("scores", ()), "votes", len(grids))


def column(rows: Any, name: str) -> Mapping[str, float]:
    return {row: values[name] for row, values in rows}


def test_fewer_views_are_the_first_ones() -> None:
    rows = dict(read_views(answers(WRONG, None, RIGHT, RIGHT, OTHER)))
    assert list(rows) == ["1", "2", "4", "5"]
    assert [rows[n]["pass_n"] for n in rows] == [0, 0, 1, 1] and [rows[n]["vote_1"] for n in rows] == [0, 0, 1, 1]
    assert [rows[n]["unanswered"] for n in rows] == [0, 1 / 2, 1 / 4, 1 / 5]
    assert [rows[n]["accuracy"] for n in rows] == [0, 0, 1 / 2, 2 / 5]
    assert [rows[n]["random2"] for n in rows] == pytest.approx([0, 0, 1 - 1 / 6, 1 - 3 / 10])


def test_every_way_to_select_is_a_row() -> None:
    rows = column(read_ways(answers(WRONG, WRONG, RIGHT, RIGHT, RIGHT, OTHER)), "vote_1")
    assert rows["votes"] == rows["cells"] == rows["probability"] == 1 and {"pairwise", "verify", "poe"} <= set(rows)


@pytest.mark.parametrize(
    ("rescore", "more"),
    [
        ((0, False, 0), ()),
        ((8, False, 0), ("poe", "nvarc", "probmul")),
        ((8, True, 0), ("poe", "nvarc", "probmul", "verify")),
        ((8, False, 4), ("poe", "nvarc", "probmul", "pairwise")),
    ],
)
def test_a_way_without_evidence_is_no_row(rescore: tuple[int, bool, int], more: tuple[str, ...]) -> None:
    names = ("n_views", "verify", "pairs")
    run = {"rescore": dict(zip(names, rescore, strict=True)), "generate": {"n_views": 2}, "seed": 3}
    facts = facts_of_run(run)
    assert facts.ways == ("votes", "cells", "probability", *more) and (facts.n_views, facts.seed) == (2, 3)
    assert [name for name, _ in read_ways(replace(answers(RIGHT, WRONG), ways=facts.ways))] == list(facts.ways)


def test_an_answer_is_in_the_class_of_its_size() -> None:
    assert [name for name, _ in read_sizes(answers(RIGHT))] == ["1..16 cells"]
    large = replace(
        answers(RIGHT), query=Query(replace(QUERY.task, test=(Pair(as_grid([[0]]), as_grid([[1] * 17])),)), 0)
    )
    assert [name for name, _ in read_sizes(large)] == ["17..36 cells"]
    assert SIZE_NAMES == ("1..16 cells", "17..36 cells", "37..100 cells", "101..225 cells", "226..900 cells")
    assert in_order([row("37..100 cells", 0.0), row("1..16 cells", 0.0)])[0].name == "1..16 cells"


def test_views_are_sorted_by_their_kinds() -> None:
    views = (Augmentation(), Augmentation(1, (0, 2, 1, *range(3, 10)), (1, 0)), Augmentation(1, (1, 0, *range(2, 10))))
    found = [
        replace(prediction(g, i, 0, "t"), augmentation=view)
        for i, (g, view) in enumerate(zip((RIGHT, WRONG, RIGHT), views, strict=True))
    ]
    rows = column(read_kinds(Answers(QUERY, found, (), "votes", 3)), "accuracy")
    assert rows == {
        "as given": 1,
        "quarter turn left": 0.5,
        "colours as given": 1,
        "colours permuted, 0 kept": 0,
        "colours permuted, 0 too": 1,
        "order as given": 1,
        "order permuted": 0,
    }
    assert [family_of(name) for name in rows] == ["symmetry"] * 2 + ["colours"] * 3 + ["order"] * 2
    assert family_of("37..100 cells") == family_of("") == ""


# Statistics -----------------------------------------------------------------------------------------------------------


def row(name: str, *values: float, n_seeds: int = 1) -> StudyRow:
    """A row with these values for puzzles p0, p1, ..."""
    scores = {
        (f"p{i:03}", 0, seed): dict.fromkeys(prediction_names(), v)
        for i, v in enumerate(values)
        for seed in range(n_seeds)
    }
    return StudyRow(name, scores)


def prediction_names() -> list[str]:
    from arc_kaggle.answering.metrics import MEASURES

    return list(MEASURES)


def shows(first: StudyRow, second: StudyRow) -> str:
    difference = second.less(first, "vote_2")
    assert difference is not None
    return difference.shows


def test_no_evidence_where_the_interval_holds_nothing_or_few_puzzles_differ() -> None:
    base = row("base", *[0.0] * 30)
    assert shows(base, row("same", *[0.0] * 30)) == "no evidence"
    assert shows(base, row("five more", *[1.0] * 5, *[0.0] * 25)) == "no evidence", "5 of 5 puzzles: p is 0.06"
    assert shows(base, row("six more", *[1.0] * 6, *[0.0] * 24)) == "higher"
    assert shows(row("six more", *[1.0] * 6, *[0.0] * 24), base) == "lower"
    assert shows(row("base", *[0.0] * 9), row("all", *[1.0] * 9)) == "too few"
    half = row("mixed", *[1.0] * 12, *[0.0] * 18)
    assert shows(row("other", *[0.0] * 10, *[1.0] * 10, *[0.0] * 10), half) == "no evidence"


def test_seeds_of_a_puzzle_are_no_puzzles() -> None:
    """Five puzzles under four seeds are five, not twenty."""
    assert shows(row("a", *[0.0] * 5, n_seeds=4), row("b", *[1.0] * 5, n_seeds=4)) == "too few"


def test_a_difference_is_paired_and_over_what_both_have() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(40)
    first = row("first", *hard)
    second = row("second", *(hard + 0.1))
    difference = second.less(first, "accuracy")
    assert difference is not None and difference.score.low == pytest.approx(0.1) == difference.score.high
    shorter = row("shorter", *(hard[:20] + 0.3))
    assert shorter.less(first, "accuracy").puzzles.n == 20  # type: ignore[union-attr]
    assert row("other", 1.0).less(StudyRow("none"), "accuracy") is None


def test_tables_have_a_line_a_row() -> None:
    rows = [row("a", *[0.0] * 12), row("b", *[1.0] * 12)]
    lines = markdown(rows, "vote_2").splitlines()
    assert len(lines) == 4 and lines[3].endswith("| +100.0 (+100.0..+100.0) | higher |")
    assert [line.split(",")[0] for line in as_csv(rows).splitlines()] == ["row", "a", "b"]


def test_every_model_and_every_kind_of_view_has_a_row_of_its_own_to_be_compared_with() -> None:
    """Of the second model the first row is compared with that of the first model; kinds with the kind as given."""
    names = [("a", "as given", "symmetry"), ("a", "turned", "symmetry"), ("a", "colours", "colours")]
    names += [("a", "permuted", "colours"), ("b", "as given", "symmetry"), ("b", "turned", "symmetry")]
    rows = [
        replace(row(f"{model} {name}", *[float(i)] * 12), model=model, family=family)
        for i, (model, name, family) in enumerate(names)
    ]
    first = [base.name if base else "" for base in bases_of(rows)]
    assert first == ["", "a as given", "", "a colours", "a as given", "b as given"]
    assert [base.name if base else "" for base in bases_of(rows, is_last=True)] == [
        "a turned",
        "b turned",
        "a permuted",
        "",
        "b turned",
        "",
    ]
    head, _, *lines = markdown(rows, "vote_2").splitlines()
    assert "| vote_2 against | shows |" in head and "| +100.0 (+100.0..+100.0) a colours | higher |" in lines[3]
    with io.StringIO(as_csv(rows)) as file:
        found = list(csv.DictReader(file))
    assert [line["against"] for line in found] == first
    assert [line["vote_2_less"] for line in found] == ["", "1.00000", "", "1.00000", "4.00000", "1.00000"]
