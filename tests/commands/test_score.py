"""Judging what is on disk: submissions and predictions, against solutions from wherever they come."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import solve_here
from processes import N_VIEWS, fake_config, read_report, score_by_hand, task_values
from strategies import WriteJson, prediction

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.cli import main
from arc_kaggle.commands.score import ScoreConfig, compared_text, score
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError, SubmissionError, TaskError
from arc_kaggle.system.files import append_lines
from arc_kaggle.tasks.grid import as_grid


@pytest.fixture
def run(tmp_path: Path) -> SolveConfig:
    """A finished run over 9 tasks with 11 test inputs, of which 7 are solved."""
    config = fake_config(tmp_path, 9)
    solve_here(config)
    return config


NOT_OF_A_RUN = ("selection", "stopping", "whole_tasks", "solved_tasks", "partly_solved", "not_answered")


def add(out: Path, found: Prediction) -> None:
    append_lines(out / "predictions" / f"{found.task_id}.jsonl", [found.to_json()])


def test_the_command_the_report_and_an_independent_computation_agree(
    run: SolveConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = score_by_hand(run.out / "submission.json", Path(run.tasks))
    assert by_hand == pytest.approx(7 / 11)
    assert read_report(run.out)["scores"]["kaggle"]["mean"] == pytest.approx(by_hand)
    assert main(["score", str(run.out / "submission.json"), "--tasks", run.tasks]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^kaggle +63\.6%  \(95% [\d.]+\.\.[\d.]+\)$", printed, re.MULTILINE)
    assert printed.endswith("9 tasks\n")


def test_a_wrong_submission_scores_what_it_deserves(run: SolveConfig) -> None:
    path = run.out / "submission.json"
    value = json.loads(path.read_text())
    value["t00"][0] = {"attempt_1": [[9]], "attempt_2": [[5, 6]]}  # right in its second attempt
    value["t02"][0] = {"attempt_1": [[9]], "attempt_2": [[9]]}
    path.write_text(json.dumps(value))
    found = score(ScoreConfig(path, run.tasks))["kaggle"]["mean"]
    assert found == pytest.approx(6 / 11) == pytest.approx(score_by_hand(path, Path(run.tasks)))


def test_predictions_are_voted_on_anew(run: SolveConfig) -> None:
    scores = score(ScoreConfig(run.out, run.tasks))
    judged = {name: value for name, value in scores.items() if name not in NOT_OF_A_RUN}
    assert judged == read_report(run.out)["scores"]
    assert score(ScoreConfig(run.out / "predictions", run.tasks)) == scores
    for view in range(N_VIEWS, 3 * N_VIEWS):
        add(run.out, prediction([[9]], view, task_id="t01"))
    assert score(ScoreConfig(run.out, run.tasks))["kaggle"]["mean"] == pytest.approx(8 / 11)


def test_every_way_to_select_is_judged(run: SolveConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(score(ScoreConfig(run.out, run.tasks))["selection"]) == {"votes", "cells", "probability"}
    often, sure = [[1, 1], [1, 1]], [[8]]
    answer = next(iter(task_values(9)["t01"]["test"]))["output"]
    assert answer not in (often, sure)
    (run.out / "predictions" / "t01.jsonl").unlink()
    for view, (grid, log_prob) in enumerate([(often, -3.0), (often, -3.0), (sure, -0.1), (answer, -0.5)]):
        add(run.out, prediction(grid, view, task_id="t01", log_prob=log_prob))
    (run.out / "scores").mkdir(exist_ok=True)
    with (run.out / "scores" / "t01.jsonl").open("w") as file:
        for grid, nll in ((often, 3.0), (sure, 9.0), (answer, 1.0)):
            file.write(json.dumps(CandidateScore("t01", 0, 0, as_grid(grid), nll).to_json()) + "\n")
    selected = score(ScoreConfig(run.out, run.tasks, "t01"))["selection"]
    shares = {way: (share["top_1"]["mean"], share["top_2"]["mean"]) for way, share in selected.items()}
    assert shares == {
        "votes": (0, 0),  # 2 views, then the likeliest of one view each
        "cells": (0, 0),
        "probability": (0, 1),
        "poe": (1, 1),
        "nvarc": (1, 1),
        "probmul": (1, 1),
    }
    assert main(["score", str(run.out), "--tasks", run.tasks, "--select", "t01"]) == 0
    assert re.search(r"^probability +0\.0% +100\.0%$", capsys.readouterr().out, re.MULTILINE)
    by = [score(ScoreConfig(run.out, run.tasks, "t01", select_by=way))["kaggle"]["mean"] for way in ("votes", "poe")]
    assert by == [0, 1]


def test_a_verdict_selects_where_there_is_one(run: SolveConfig) -> None:
    answer = next(iter(task_values(9)["t01"]["test"]))["output"]
    add(run.out, prediction(answer, 50, task_id="t01"))
    assert answer != [[8]]
    (run.out / "scores").mkdir(exist_ok=True)
    add(run.out, prediction([[8]], 51, task_id="t01"))
    with (run.out / "scores" / "t01.jsonl").open("w") as file:
        for grid, verdict in ((answer, 0.5), ([[8]], -0.5)):
            file.write(json.dumps(CandidateScore("t01", 0, 0, as_grid(grid), 1.0, verdict).to_json()) + "\n")
    selected = score(ScoreConfig(run.out, run.tasks, "t01"))["selection"]
    assert [selected[way]["top_1"]["mean"] for way in ("votes", "verify")] == [0, 1]


def test_early_stopping_is_told_from_a_finished_run(run: SolveConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Two views, then four for the answer: whoever stops at a lead of two after the first two misses it."""
    answer = next(iter(task_values(9)["t01"]["test"]))["output"]
    (run.out / "predictions" / "t01.jsonl").unlink()
    for view, grid in enumerate([[[8]], [[8]], answer, answer, [[7]], answer]):
        add(run.out, prediction(grid, view, task_id="t01"))
    add(run.out, replace(prediction([[6]], 5, task_id="t01"), rank=1))  # of a view that gave two
    add(run.out, replace(prediction(None, 6, task_id="t01"), reason="settled"))  # was not asked
    whole, *rows = score(ScoreConfig(run.out, run.tasks, "t01"))["stopping"]
    assert (whole["asked"], whole["top_1"]["mean"], len(rows)) == (1, 1, 20)
    of = {(row["stop_lead"], row["views_a_wave"]): row for row in rows}
    for wave, asked, first in ((1, 2, 0), (2, 2, 0), (4, 6, 1), (8, 6, 1)):
        assert (of[2, wave]["asked"], of[2, wave]["top_1"]["mean"]) == (asked / 6, first)
    assert {row["asked"] for (lead, _), row in of.items() if lead > 2} == {1}
    assert main(["score", str(run.out), "--tasks", run.tasks, "--select", "t01"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^lead 2, waves of 1 +0\.0% +0\.0% +33\.3%$", printed, re.MULTILINE)
    assert re.search(r"^all views +100\.0% +100\.0% +100\.0%$", printed, re.MULTILINE)


def test_a_selection_is_judged_alone(run: SolveConfig) -> None:
    scores = score(ScoreConfig(run.out / "submission.json", run.tasks, "t01,t02"))
    assert (scores["kaggle"]["mean"], scores["n_tasks"]) == (0.5, 2)
    assert score(ScoreConfig(run.out, run.tasks, "t01"))["kaggle"]["mean"] == 0


def without_outputs(values: dict[str, Any]) -> dict[str, Any]:
    return {
        task_id: {**value, "test": [{"input": pair["input"]} for pair in value["test"]]}
        for task_id, value in values.items()
    }


def test_solutions_may_come_from_a_file_of_their_own(run: SolveConfig, write_json: WriteJson) -> None:
    values = task_values(9)
    tasks = write_json("hidden/tasks.json", without_outputs(values))
    solutions = write_json("answers.json", {i: [pair["output"] for pair in v["test"]] for i, v in values.items()})
    config = ScoreConfig(run.out / "submission.json", str(tasks), solutions=solutions)
    assert score(config) == score(ScoreConfig(run.out / "submission.json", run.tasks))
    with pytest.raises(TaskError, match="9 have no solution, the first is t00; name --solutions"):
        score(ScoreConfig(run.out / "submission.json", str(tasks)))
    write_json("answers.json", {"t00": [[[1]]]})
    with pytest.raises(TaskError, match=r"answers\.json: found no solution of 8 tasks, the first is t01"):
        score(config)


def test_what_cannot_be_judged_is_named(run: SolveConfig, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"nowhere\.json: cannot be read"):
        score(ScoreConfig(tmp_path / "nowhere.json", run.tasks))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubmissionError, match=r"empty: found neither predictions \(\*\.jsonl\)"):
        score(ScoreConfig(tmp_path / "empty", run.tasks))
    (run.out / "submission.json").write_text("{}")
    with pytest.raises(SubmissionError, match=r"submission.json: found answers for none of 9 tasks"):
        score(ScoreConfig(run.out / "submission.json", run.tasks))


def test_it_is_told_which_tasks_are_solved_and_how_many_as_a_whole(
    run: SolveConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = score(ScoreConfig(run.out / "submission.json", run.tasks))
    assert scores["solved_tasks"] == ["t00", "t02", "t04", "t06", "t08"]
    assert scores["partly_solved"] == {"t03": "1 of 2", "t07": "1 of 2"}
    assert scores["whole_tasks"]["mean"] == pytest.approx(5 / 9)
    assert main(["score", str(run.out / "submission.json"), "--tasks", run.tasks]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^whole_tasks +55\.6%", printed, re.MULTILINE)
    assert "\nsolved (5): t00 t02 t04 t06 t08\nsolved in part (2): t03 (1 of 2) t07 (1 of 2)\n9 tasks\n" in printed


def test_part_of_a_set_is_judged_with_a_word_about_the_rest(
    run: SolveConfig, write_json: WriteJson, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((run.out / "submission.json").read_text())
    part = write_json("part.json", {task_id: value[task_id] for task_id in ("t00", "t01", "t03")} | {"other": 3})
    scores = score(ScoreConfig(part, run.tasks))
    assert (scores["kaggle"]["mean"], scores["n_tasks"]) == (0.5, 3)
    assert scores["not_answered"] == ["t02", "t04", "t05", "t06", "t07", "t08"]
    assert main(["score", str(part), "--tasks", run.tasks]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("not in the submission and not judged (6): t02 t04 t05 t06 t07 t08\n3 tasks of 9\n")


def test_answers_in_a_file_a_task_are_judged(run: SolveConfig, write_json: WriteJson, tmp_path: Path) -> None:
    values = task_values(9)
    right, wrong = [[5, 6]], [[8]]
    write_json("answers/t00.json", {"attempt_1": {"answer": right, "cost": 0.1}})
    write_json("answers/t01.json", [{"attempt_1": {"answer": wrong}, "attempt_2": {"answer": []}}])
    second = values["t03"]["test"][1]["output"]
    write_json("answers/t03.json", [{"attempt_1": None, "attempt_2": None}, {"attempt_1": wrong, "attempt_2": second}])
    write_json("answers/results.json", {"score": 1})
    scores = score(ScoreConfig(tmp_path / "answers", run.tasks))
    assert (scores["kaggle"]["mean"], scores["n_tasks"]) == (0.5, 3)
    assert (scores["solved_tasks"], scores["partly_solved"]) == (["t00"], {"t03": "1 of 2"})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (3, "found 3, expected a list of 1, one a test input"),
        ([], "found a list of 0, expected a list of 1"),
        ([3], 'query 0: found 3, expected an object with "attempt_1" and "attempt_2"'),
        ([{"answer": [[1]]}], "query 0: found an object with keys"),
        ([{"attempt_1": {"answer": [[10]]}}], "query 0, attempt_1, row 0, column 0: found 10"),
    ],
)
def test_an_answer_that_is_none_is_named(run: SolveConfig, write_json: WriteJson, value: Any, problem: str) -> None:
    folder = write_json("answers/t00.json", value).parent
    with pytest.raises(SubmissionError, match=rf"^t00.json: task t00(: |, ){re.escape(problem)}"):
        score(ScoreConfig(folder, run.tasks))
    path = write_json("submission.json", {"t00": [{"attempt_1": [[1]]}]})
    with pytest.raises(SubmissionError, match=r"^submission.json: task t00, query 0: found an object with keys"):
        score(ScoreConfig(path, run.tasks))


def test_two_submissions_are_compared_on_what_both_hold(
    run: SolveConfig, write_json: WriteJson, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((run.out / "submission.json").read_text())
    answer = task_values(9)["t01"]["test"][0]["output"]
    wrong = {"attempt_1": [[8]], "attempt_2": [[8]]}
    changed = {**value, "t01": [{"attempt_1": answer, "attempt_2": [[8]]}], "t00": [wrong], "t02": [wrong]}
    other = write_json("other.json", {task_id: each for task_id, each in changed.items() if task_id != "t08"})
    assert main(["score", str(run.out / "submission.json"), str(other), "--tasks", run.tasks]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"submission\.json +60\.0% +50\.0%\n.*other\.json +50\.0% +37\.5%\n", printed)
    assert "only the first (2): t00[0] t02[0]\nonly the second (1): t01[0]\n" in printed
    assert "4 test outputs solved by both, 2 and 1 by one alone; difference +10.0 points, p 1 (exact" in printed
    assert main(["score", str(other), str(other), "--tasks", run.tasks, "--select", "t00,t01"]) == 0
    assert "too few of 2 for a test" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="found no task that both hold"):
        compared_text(ScoreConfig(other, run.tasks, other=write_json("one.json", {"t08": value["t08"]})))
