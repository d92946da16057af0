"""The report: every task has a verdict, and the verdicts agree with the score."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from strategies import TASK_JSON, prediction

from arc_kaggle.answering.candidates import CandidateScore
from arc_kaggle.answering.submission import vote_task
from arc_kaggle.run.records import TaskReport, TaskRun
from arc_kaggle.run.report import score_lines, scores_json, table, task_report
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Task, task_from_json
from arc_kaggle.tuning.outcome import TuneReport

RUN = TaskRun("small", TuneReport(True, "", 60, 2.0, 0.5, 12.34), 3.21, {"answered": 16}, 0, 100.0)
RIGHT, WRONG, WORSE = [[7]], [[8]], [[9]]


def task_of(*outputs: list[list[int]] | None) -> Task:
    tests = [{"input": [[5, 6]], "output": output} for output in outputs]
    return task_from_json("small", {"train": TASK_JSON["train"], "test": tests})


def verdict(task: Task, *said: tuple[int, Any], failure: str = "") -> str:
    """The verdict upon (query, grid or None) of view after view."""
    found = [prediction(grid, view, query) for view, (query, grid) in enumerate(said)]
    report = task_report(task, vote_task(task, found), {"small": found}, RUN, 1, failure)
    assert (report.task_id, report.tries, report.run) == ("small", 1, RUN)
    return report.verdict


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([RIGHT], "solved"),
        ([WRONG, WRONG, RIGHT, None], "solved"),
        ([WRONG], "right answer never produced"),
        ([WRONG, WRONG, WORSE, WORSE, RIGHT], "right answer outvoted, place 3"),
        ([None, None], "no view gave a grid: no_end 2"),
        ([], "not reached"),
    ],
)
def test_the_verdict_says_why_a_task_is_not_solved(said: list[Any], expected: str) -> None:
    assert verdict(task_of(RIGHT), *((0, grid) for grid in said)) == expected


def test_the_place_of_the_answer_is_that_of_the_rule_of_the_run() -> None:
    """Votes would place it second; by likelihood, it is third of three."""
    task = task_of(RIGHT)
    found = [prediction(grid, view) for view, grid in enumerate([WRONG, WRONG, RIGHT, WORSE])]
    nlls = ((WRONG, 1.0), (WORSE, 2.0), (RIGHT, 3.0))
    scores = [CandidateScore("small", 0, 0, as_grid(grid), nll) for grid, nll in nlls]
    attempts = vote_task(task, found, scores, "poe")
    told = task_report(task, attempts, {"small": found}, RUN, 1, "", scores=scores, by="poe")
    assert told.verdict == "right answer outvoted, place 3"


@pytest.mark.parametrize("said", [[], [None]])
def test_an_answer_that_the_fallback_hits_is_solved_as_the_score_says(said: list[Any]) -> None:
    task = task_of([[5, 6]])
    assert verdict(task, *((0, grid) for grid in said)) == "solved by a guess, not by the model"
    scores = scores_json({"small": vote_task(task, [])}, {}, [task])
    assert (scores["kaggle"]["mean"], scores["model"]["mean"]) == (1, 0)


def test_a_task_without_solution_is_not_scored() -> None:
    assert verdict(task_of(None), (0, WRONG)) == "not scored"
    assert verdict(task_of(None)) == "not reached"
    assert verdict(task_of(None), (0, None)) == "no view gave a grid: no_end 1"
    assert verdict(task_of(None, None), (0, WRONG), (1, WRONG)) == "not scored"


def test_of_several_test_inputs_the_first_that_is_not_solved_speaks() -> None:
    task = task_of(RIGHT, RIGHT, RIGHT)
    assert verdict(task, (0, RIGHT), (1, None), (2, WRONG)) == "1 of 3 solved; no view gave a grid: no_end 1"
    assert verdict(task, (0, RIGHT), (1, RIGHT), (2, RIGHT)) == "solved"
    assert verdict(task, (0, WRONG), (1, RIGHT)) == "1 of 3 solved; right answer never produced"


def test_a_failure_comes_first_unless_the_task_is_solved_all_the_same() -> None:
    assert verdict(task_of(RIGHT), failure="the worker died") == "the worker died; not reached"
    assert verdict(task_of(RIGHT), (0, RIGHT), failure="the worker died") == "solved"
    assert verdict(task_of(None), (0, RIGHT), failure="the worker died") == "the worker died; not scored"


def test_the_table_has_seconds_tries_and_the_outcome_of_tuning_where_it_is_unusual() -> None:
    untuned = TaskRun("00576224", TuneReport(False, "diverged", 3), 0.04, {}, 0)
    reports = [
        TaskReport("007bbfb7", "solved", 1, RUN),
        TaskReport("00576224", "right answer never produced", 2, untuned),
        TaskReport("0a1d4ef5", "not reached", 0, None),
    ]
    assert table(reports).splitlines() == [
        "task          train s  infer s  tries  result",
        "007bbfb7         12.3      3.2      1  solved",
        "00576224          0.0      0.0      2  right answer never produced [base: diverged]",
        "0a1d4ef5          0.0      0.0      0  not reached",
    ]


def test_scores_are_of_the_tasks_with_a_solution() -> None:
    known, unknown = task_of(RIGHT), task_from_json("other", {**TASK_JSON, "test": [{"input": [[1]]}]})
    found = {"small": [prediction(RIGHT, 0), prediction(None, 1)], "other": [prediction(None, 0, task_id="other")]}
    attempts = {task.id: vote_task(task, found[task.id]) for task in (known, unknown)}
    scores = scores_json(attempts, found, [known, unknown])
    assert scores["n_tasks"] == 1
    assert scores["kaggle"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert scores["accuracy"]["mean"] == 0.5 and scores["voting_accuracy"] == 1.0
    assert scores["unanswered_by_reason"] == {"no_end": 1}
    assert json.loads(json.dumps(scores)) == scores
    assert scores_json(attempts, found, [unknown]) == {}


def test_score_lines_are_per_cent_with_intervals() -> None:
    score = {"mean": 0.25, "low": 0.1, "high": 0.5}
    scores = {"kaggle": score, "pass_n": score, "voting_accuracy": 0.5, "unanswered_by_reason": {"no_end": 3, "x": 1}}
    assert score_lines(scores).splitlines() == [
        "kaggle            25.0%  (95% 10.0..50.0)",
        "pass_n            25.0%  (95% 10.0..50.0)",
        "voting_accuracy   50.0%",
        "unanswered by reason: no_end 3, x 1",
    ]
    assert "no right prediction to keep" in score_lines({**scores, "voting_accuracy": None})
    assert score_lines({**scores, "unanswered_by_reason": {}}).endswith("unanswered by reason: none")
    assert score_lines({"kaggle": score, "n_tasks": 3}) == "kaggle            25.0%  (95% 10.0..50.0)"
    assert score_lines({}) == "no solutions known: nothing to score"


def test_what_a_task_took_survives_json() -> None:
    assert TaskRun.from_json(json.loads(json.dumps(asdict(RUN)))) == RUN
    attempts = [(as_grid(RIGHT), as_grid(WRONG))]
    assert task_report(task_of(RIGHT), attempts, {}, None, 0, "").solved_by == ("guess",)
