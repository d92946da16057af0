"""What the report page makes of a run's rule of selection: the curve, comparisons, grids of common cells, and views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from in_process import solve_here
from processes import fake_config, task_values
from strategies import prediction

from arc_kaggle.answering.candidates import CandidateScore
from arc_kaggle.answering.metrics import selection_scores
from arc_kaggle.config.answer import Selection
from arc_kaggle.evaluation.run_view import Evidence, coverage_curve, decoding_words, query_view, run_view, task_view
from arc_kaggle.system.files import line_of
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Query, Task

A, B, C = ([[n]] for n in (1, 2, 3))
TASK = Task("small", (Pair(as_grid([[5]]), as_grid([[6]])),), (Pair(as_grid([[7]]), as_grid(A)),))
FOUND = [prediction(grid, view, log_prob=-1.0 - view) for view, grid in enumerate([B, C, A, B])]
"""The answer is given by the third view alone, and a vote ranks it last."""
ATTEMPTS = {"small": [(as_grid(B), as_grid(C))]}


def score(grid: Any, nll: float, verdict: float, *duels: tuple[Any, float], view: int = 0) -> CandidateScore:
    others = tuple((as_grid(other), margin) for other, margin in duels)
    return CandidateScore("small", 0, view, as_grid(grid), nll, verdict, others)


SCORES = [
    score(A, 0.1, 2.0, (B, 1.0), (C, 3.0)),
    score(A, 0.1, 2.0, (B, -1.0), view=1),
    score(B, 5.0, -2.0, (C, -2.0)),
    score(B, 5.0, -2.0, view=1),
    score(C, 4.0, -1.0),
    score(C, 4.0, -1.0, view=1),
]


def evidence(by: Selection) -> Evidence:
    return Evidence({"small": FOUND}, {"small": SCORES}, ATTEMPTS, by)


@pytest.mark.parametrize("by", get_args(Selection))
def test_the_curve_is_that_of_the_rule_of_the_run(by: Selection) -> None:
    """Under two views the answer is not there yet, whatever it would be worth; under four the rule decides."""
    curve = coverage_curve([TASK], evidence(by))
    assert [point["views"] for point in curve] == [1, 2, 4]
    assert [point["covered"] for point in curve] == [0, 0, 1]
    at_last = int(by not in ("votes", "cells", "probability"))
    assert [point["selected"] for point in curve] == [0, 0, at_last]
    _, second = selection_scores({"small": FOUND}, {"small": SCORES}, [TASK])[by]
    assert second.mean == at_last


def test_comparisons_say_who_won_against_whom() -> None:
    """A beat B once and lost to it once, and beat C; C beat B. So the order is A, C, B."""
    shown = query_view(Query(TASK, 0), evidence("pairwise"))["candidates"]
    assert [candidate["grid"] for candidate in shown] == ["1", "3", "2"]
    assert [candidate["duels"] for candidate in shown] == [
        [[2, 1, 0], [3, 1, 1]],
        [[1, 0, 1], [3, 1, 0]],
        [[1, 1, 1], [2, 0, 1]],
    ]
    strengths = [candidate["strength"] for candidate in shown]
    assert strengths == sorted(strengths, reverse=True) and sum(strengths) == pytest.approx(0)
    by_votes = query_view(Query(TASK, 0), evidence("votes"))["candidates"]
    assert {each["grid"]: each["strength"] for each in by_votes} == pytest.approx(
        {each["grid"]: each["strength"] for each in shown}
    )


def test_who_was_not_compared_has_no_strength() -> None:
    scores = [replace(each, duels=()) if each.grid.tolist() == A else each for each in SCORES]
    view = query_view(Query(TASK, 0), replace(evidence("pairwise"), scores={"small": scores}))
    assert {each["grid"] for each in view["candidates"] if "duels" in each} == {"2", "3"}
    plain = query_view(Query(TASK, 0), replace(evidence("votes"), scores={}))
    assert all("strength" not in each for each in plain["candidates"])


def test_every_view_is_named_once_and_says_what_it_gave() -> None:
    turned = Augmentation(3, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9), (0,))
    found = [FOUND[0], replace(FOUND[1], augmentation=turned, extracted=True), prediction(None, 2)]
    found += [replace(prediction(C, 0), rank=1)]
    task = task_view(TASK, None, Evidence({"small": found}, {}, ATTEMPTS, "votes"))
    assert task["views"] == {0: [0, "0123456789", None], 1: [3, "0213456789", (0,)], 2: [0, "0123456789", None]}
    (query,) = task["queries"]
    assert query["failed"] == {2: "no_end"}
    assert {each["grid"]: (each.get("extracted"), each.get("later")) for each in query["candidates"]} == {
        "3": ([1], [0]),
        "2": (None, None),
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "greedy"),
        ({"p_min": 0.1}, "search, all completions over 0.1"),
        ({"decoding": {"temperature": 0.7, "best_of": 4, "beams": 1}}, "temperature 0.7, best of 4"),
        ({"decoding": {"temperature": 0.0, "best_of": 1, "beams": 3}}, "3 beams"),
    ],
)
def test_how_tokens_were_chosen_in_words(changes: dict[str, Any], words: str) -> None:
    greedy = {"p_min": 0.0, "decoding": {"temperature": 0.0, "best_of": 1, "beams": 1}}
    assert decoding_words({**greedy, **changes}) == words


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by common cells over tasks that end in many ways; t05 is solved by a grid that no view gave."""
    config = fake_config(tmp_path_factory.mktemp("mixed"), 8, select_by="cells")
    values = task_values(8)
    for task in values.values():
        task["test"] = [{"input": [[5, 6, 5]], "output": [[1, 2, 3]]}]
    (config.out.parent / "tasks.json").write_text(json.dumps(values))
    solve_here(config)
    right, wrong = [[1, 2, 3]], [[0, 0, 0]]
    given: dict[str, list[Any]] = {
        "t00": [right] * 4,
        "t01": [wrong, wrong, wrong, right],
        "t02": [wrong, wrong, wrong, [[1, 2, 0]]],
        "t03": [[[4]]] * 4,
        "t04": [None] * 4,
        "t05": [[[1, 2, 0]], [[1, 0, 3]], [[0, 2, 3]], None],
        "t06": [wrong, wrong, [[9, 9, 9]], right],
        "t07": [[[0, 0, 9]], [[0, 9, 0]], [[9, 0, 0]], right],
    }
    for task_id, grids in given.items():
        path = config.out / "predictions" / f"{task_id}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            grid = grids[line["view"]]
            line |= {"grid": grid, "reason": None if grid else "no_end"}
            del line["crc32"]
        path.write_bytes(b"".join(map(line_of, lines)))
    solve_here(config)  # it goes on, which is to vote and to report on what is there
    return config.out


SOLVER = {"solved": {"model"}, "solved_by_rule": {"rule", "guess"}}


def test_every_outcome_is_that_of_the_report(mixed: Path) -> None:
    view, reports = run_view(mixed, "a run"), json.loads((mixed / "report.json").read_text())["reports"]
    kinds = {}
    for report in reports:
        task = view["tasks"][report["task_id"]]
        kinds[report["task_id"]] = task["kind"]
        for query, solver in zip(task["queries"], report["solved_by"], strict=True):
            assert solver in SOLVER.get(query["kind"], {None})
            proposers = {attempt["by"] for attempt in query["attempts"] if attempt["pixels"] == 1}
            assert proposers == ({solver} if solver else set())
        assert (task["kind"] == "outvoted") == report["verdict"].startswith("right answer outvoted")
        if task["kind"] == "outvoted":
            grids = [candidate["grid"] for candidate in task["queries"][0]["candidates"]]
            assert report["verdict"] == f"right answer outvoted, place {grids.index('123') + 1}"
        assert (task["kind"] == "no_grid") == report["verdict"].startswith("no view gave a grid")
    assert kinds["t05"] == "solved_by_rule" and kinds["t06"] == "outvoted"
    assert {"solved", "outvoted", "wrong_cells", "wrong_size", "no_grid"} <= set(kinds.values())
    covered = sum(query["covered"] for task in view["tasks"].values() for query in task["queries"])
    scores = json.loads((mixed / "report.json").read_text())["scores"]
    n = len(reports)
    assert covered == view["curve"][-1]["covered"] == round(scores["pass_n"]["mean"] * n)
    solved = sum(kind == "solved" for kind in kinds.values())
    assert solved == round(scores["model"]["mean"] * n)
    assert solved + sum(kind == "solved_by_rule" for kind in kinds.values()) == round(scores["kaggle"]["mean"] * n)


def test_a_grid_of_common_cells_is_given_by_no_view(mixed: Path) -> None:
    (query,) = run_view(mixed, "a run")["tasks"]["t05"]["queries"]
    first = query["candidates"][0]
    assert (first["grid"], first["votes"], first["views"]) == ("123", 0, [])
    assert not query["covered"]
