"""The report page's numbers against the files that they come from, and a page that nothing can break out of."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import solve_here
from processes import fake_config, task_values

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.commands.report import ReportConfig, report, run_names
from arc_kaggle.config.answer import RescoreConfig
from arc_kaggle.errors import ArcKaggleError, ConfigError, SubmissionError
from arc_kaggle.evaluation.page.build import digest, embedded, page
from arc_kaggle.evaluation.run_comparison import compare_runs
from arc_kaggle.evaluation.run_view import KINDS, grid_text, kind_of, run_view
from arc_kaggle.run.report import task_report
from arc_kaggle.system.files import line_of
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Query, Task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = fake_config(tmp_path_factory.mktemp("run"), 6)
    solve_here(config)
    return config.out


def data_of(path: Path) -> dict[str, Any]:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    value: dict[str, Any] = json.loads(text)
    return value


def test_numbers_are_those_of_the_files(run: Path) -> None:
    view = run_view(run, "a run")
    told = json.loads((run / "report.json").read_text())
    submission = json.loads((run / "submission.json").read_text())
    assert view["scores"] == told["scores"] and view["facts"]["seconds"] == round(told["seconds"], 1)
    assert list(view["tasks"]) == [f"t{i:02}" for i in range(6)]
    for task_id, task in view["tasks"].items():
        assert [[each["grid"] for each in query["attempts"]] for query in task["queries"]] == [
            ["/".join("".join(map(str, row)) for row in pair[name]) for name in ("attempt_1", "attempt_2")]
            for pair in submission[task_id]
        ]
        lines = [json.loads(line) for line in (run / "predictions" / f"{task_id}.jsonl").read_text().splitlines()]
        votes = [sum(c["votes"] for c in query["candidates"]) for query in task["queries"]]
        assert votes == [
            sum(line["query"] == q and line["grid"] is not None for line in lines) for q in range(len(votes))
        ]
    stages = [stage for each in told["reports"] for stage in each["stages"]]
    assert sum(row["seconds"] for row in view["stages"] if row["task"]) == pytest.approx(
        sum(stage["outcome"]["seconds"] for stage in stages)
    )
    assert sum(view["ended"].values()) == 6


def test_outcomes_say_who_was_right(run: Path) -> None:
    """The echo engine is right where the output is the input: tasks of even number, and second inputs."""
    kinds = {task_id: [q["kind"] for q in task["queries"]] for task_id, task in run_view(run, "a run")["tasks"].items()}
    assert kinds["t00"] == kinds["t02"] == kinds["t04"] == ["solved"]
    assert kinds["t01"] == ["wrong_size"] and kinds["t03"] == ["wrong_size", "solved"]


def test_the_curve_counts_covered_and_selected(run: Path) -> None:
    curve = run_view(run, "a run")["curve"]
    assert [point["views"] for point in curve] == [1, 2, 4]
    assert all(point["n"] == 7 and point["covered"] == point["selected"] == 4 for point in curve)


ANSWER = as_grid([[1, 2], [3, 4], [5, 6], [7, 8], [1, 2]])
NEAR = as_grid([[1, 2], [3, 4], [5, 6], [7, 8], [1, 9]])
WRONG, OTHER = as_grid([[0] * 2] * 5), as_grid([[0]])
TASK = Task("t", (Pair(as_grid([[1]]), as_grid([[2]])), Pair(as_grid([[3]]), as_grid([[5]]))), (Pair(OTHER, ANSWER),))


def prediction(grid: Any, view: int = 0) -> Prediction:
    reason = None if grid is not None else "no_end"
    return Prediction("t", 0, view, Augmentation(), "", grid, reason, 1, -1.0)


VERDICTS = {
    "solved": "solved",
    "solved_by_rule": "solved by a guess, not by the model",
    "outvoted": "right answer outvoted, place ",
    **dict.fromkeys(("near_miss", "wrong_cells", "wrong_size"), "right answer never produced"),
    "no_grid": "no view gave a grid: no_end 1",
    "not_reached": "not reached",
}


@pytest.mark.parametrize(
    ("grids", "attempts", "kind"),
    [
        ([ANSWER], (ANSWER, OTHER), "solved"),
        ([WRONG], (WRONG, ANSWER), "solved_by_rule"),
        ([], (ANSWER, OTHER), "solved_by_rule"),
        ([WRONG, WRONG, OTHER, OTHER, ANSWER], (WRONG, OTHER), "outvoted"),
        ([NEAR], (NEAR, OTHER), "near_miss"),
        ([WRONG], (WRONG, OTHER), "wrong_cells"),
        ([OTHER], (OTHER, WRONG), "wrong_size"),
        ([None], (OTHER, WRONG), "no_grid"),
        ([], (OTHER, WRONG), "not_reached"),
    ],
)
def test_every_kind(grids: list[Any], attempts: Any, kind: str) -> None:
    """The kind, and that report.json says of the same attempts that the same one has solved them."""
    found, query = [prediction(grid, view) for view, grid in enumerate(grids)], Query(TASK, 0)
    for by in ("votes", "cells"):
        assert kind_of(query, found, rank_candidates(found, by=by), attempts) == kind
    told = task_report(TASK, [attempts], {"t": found}, None, 1, "")
    assert told.verdict.startswith(VERDICTS[kind])
    assert {"solved": ("model",), "solved_by_rule": ("guess",)}.get(kind, (None,)) == told.solved_by


def test_without_an_answer_nothing_is_judged() -> None:
    found = [prediction(WRONG)]
    query = Query(replace(TASK, test=(Pair(OTHER, None),)), 0)
    assert kind_of(query, found, rank_candidates(found), (WRONG, OTHER)) == "not_scored"


def test_the_page_holds_its_runs_and_nothing_from_elsewhere(run: Path, tmp_path: Path) -> None:
    path = report(ReportConfig((run, run), tmp_path / "page.html"))
    text, data = path.read_text(), data_of(path)
    assert [each["name"] for each in data["runs"]] == ["out 1", "out 2"] and list(data["kinds"]) == list(KINDS)
    assert data["runs"][0]["tasks"] == json.loads(json.dumps(run_view(run, "x")["tasks"]))
    assert not re.findall(r"(?:src|href)=\"(?!#)|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy == (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_no_text_breaks_out_of_the_page() -> None:
    evil = "</script><img src=x onerror=alert(1)>\u2028&\"'"
    assert "<" not in embedded({evil: evil}) and json.loads(embedded({evil: evil})) == {evil: evil}
    text = page(evil, [])
    assert text.count("<script") == 2 and "<img" not in text


def test_the_page_goes_into_the_run_where_no_place_is_named(run: Path) -> None:
    assert report(ReportConfig((run,))) == run / "report.html"


@pytest.mark.parametrize("missing", ["config.json", "report.json", "submission.json"])
def test_a_folder_that_is_no_run_is_named(run: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in {"config.json", "report.json", "submission.json"} - {missing}:
        (folder / name).write_bytes((run / name).read_bytes())
    with pytest.raises(ArcKaggleError, match=missing):
        report(ReportConfig((folder,)))


@pytest.mark.parametrize("text", ["", "[]", "5"])
def test_a_broken_report_is_named(run: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(SubmissionError, match=r"report\.json: "):
        run_view(tmp_path, "broken")


def test_no_run_and_no_place_for_the_page(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found no run"):
        report(ReportConfig(()))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        report(ReportConfig((run,), tmp_path / "file" / "page.html"))


def test_runs_have_names_that_differ(tmp_path: Path) -> None:
    assert run_names((tmp_path / "a" / "out", tmp_path / "b" / "out")) == ["a/out", "b/out"]
    assert run_names((tmp_path / "a",)) == ["a"]
    assert run_names((tmp_path / "a", tmp_path / "a")) == ["a 1", "a 2"]


def test_a_grid_as_text() -> None:
    assert grid_text(np.array([[1, 2], [3, 0]], dtype=np.int8)) == "12/30" and grid_text(None) is None


def test_the_tasks_of_the_fixture_are_as_told() -> None:
    assert len(task_values(6)["t03"]["test"]) == 2


# Run against run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of 14 tasks, and the same with other attempts for six that it solved; both of them have the same views."""
    folder = tmp_path_factory.mktemp("two")
    config = fake_config(folder, 14)
    solve_here(config)
    other = folder / "worse"
    shutil.copytree(config.out, other)
    submission = json.loads((other / "submission.json").read_text())
    for i in (0, 2, 4, 6, 8, 10):
        submission[f"t{i:02}"] = [{"attempt_1": [[0]], "attempt_2": [[0]]}]
    (other / "submission.json").write_text(json.dumps(submission))
    return config.out, other


def solved_outputs(folder: Path) -> dict[tuple[str, int], bool]:
    """From the files alone: whether an attempt is the answer."""
    tasks = json.loads((folder.parent / "tasks.json").read_text())
    submission = json.loads((folder / "submission.json").read_text())
    return {
        (task_id, i): pair["output"] in submission[task_id][i].values()
        for task_id, task in tasks.items()
        for i, pair in enumerate(task["test"])
    }


def test_what_one_run_solves_and_the_other_does_not_is_that_of_the_files(two: tuple[Path, Path]) -> None:
    found = compare_runs([run_view(folder, folder.name) for folder in two])
    a, b = map(solved_outputs, two)
    outputs = next(each for each in found if (each["way"], each["unit"]) == ("as submitted", "outputs"))
    assert outputs["n"] == len(a) and outputs["both"] == sum(a[key] and b[key] for key in a)
    assert outputs["only_first"] == sum(a[key] > b[key] for key in a) == 6
    assert outputs["only_second"] == sum(b[key] > a[key] for key in a) == 0
    assert outputs["neither"] == sum(not a[key] and not b[key] for key in a)
    assert outputs["by_first"] == [(f"t{i:02}", 0) for i in (0, 2, 4, 6, 8, 10)] and outputs["by_second"] == []
    assert outputs["p_value"] == pytest.approx(2 / 2**6) and outputs["shows"] == "out is ahead"
    whole = next(each for each in found if (each["way"], each["unit"]) == ("as submitted", "tasks"))
    ids = {task_id for task_id, _ in a}
    both = [all(x[key] for key in x if key[0] == task_id) for x in (a, b) for task_id in sorted(ids)]
    assert whole["n"] == 14 and whole["only_first"] == sum(both[:14]) - sum(both[14:]) == 6
    views = next(each for each in found if (each["way"], each["unit"]) == ("right under some view", "outputs"))
    assert (views["only_first"], views["only_second"]) == (0, 0) and views["shows"] == "no evidence of a difference"


def test_few_common_outputs_are_too_few_to_tell(run: Path, two: tuple[Path, Path]) -> None:
    found = compare_runs([run_view(run, "six"), run_view(two[0], "all")])
    assert {(each["n"], each["shows"]) for each in found if each["unit"] == "tasks"} == {(6, "too few to tell")}
    assert compare_runs([run_view(run, "one")]) == []
    several = compare_runs([run_view(run, name) for name in "abc"])
    pairs = {(each["first"], each["second"]) for each in several}
    assert pairs == {("a", "b"), ("a", "c"), ("b", "c")}


def test_answers_that_are_not_known_are_not_compared(run: Path) -> None:
    view = run_view(run, "a")
    view["tasks"]["t03"]["queries"][1]["answer"] = None
    found = compare_runs([view, view])
    assert {each["n"] for each in found} == {5, 6}


# Every number against the files that it came from, read as plain JSON -------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with likelihoods under two views; what the fake engine says is made to differ from view to view."""
    scores = RescoreConfig(n_views=2)
    config = fake_config(tmp_path_factory.mktemp("scored"), 6, rescore=scores, select_by="nvarc")
    solve_here(config)
    path = config.out / "predictions" / "t01.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for i, line in enumerate(lines):
        line |= {"log_prob": -0.5 - i, "grid": [[9 - i % 3]] if i < 3 else None, "reason": None if i < 3 else "no_end"}
    path.write_bytes(b"".join(line_of({k: v for k, v in line.items() if k != "crc32"}) for line in lines))
    given = [
        {"task_id": "t01", "query": 0, "view": v, "nll": 1.5 * v + g, "verdict": g - 2.0 * v, "grid": [[g]]}
        for v in (0, 1)
        for g in (7, 8, 9)
    ]
    (config.out / "scores" / "t01.jsonl").write_bytes(b"".join(map(line_of, given)))
    return config.out


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_candidate_says_what_its_predictions_and_scores_say(scored: Path) -> None:
    tasks = json.loads((scored.parent / "tasks.json").read_text())
    n_seen = 0
    for task_id, task in run_view(scored, "a run")["tasks"].items():
        said = lines_of(scored / "predictions" / f"{task_id}.jsonl")
        scores = lines_of(scored / "scores" / f"{task_id}.jsonl")
        for q, query in enumerate(task["queries"]):
            answer = tasks[task_id]["test"][q]["output"]
            mine = [line for line in said if line["query"] == q]
            assert query["n_views"] == len({line["view"] for line in mine})
            assert dict(query["reasons"]) == dict(Counter(line["reason"] for line in mine if line["reason"]))
            grids = {json.dumps(line["grid"]) for line in mine if line["grid"] is not None}
            assert query["n_candidates"] == len(grids) == len(query["candidates"])
            for candidate in query["candidates"]:
                grid = [[int(cell) for cell in line] for line in candidate["grid"].split("/")]
                own = [line for line in mine if line["grid"] == grid]
                of_views = [line for line in scores if line["query"] == q and line["grid"] == grid]
                assert candidate["views"] == sorted({line["view"] for line in own})
                assert candidate["votes"] == len(candidate["views"]) > 0
                assert candidate["log_prob"] == max(line["log_prob"] for line in own)
                assert candidate["nll"] == mean_of(of_views, "nll") and candidate["verdict"] == mean_of(
                    of_views, "verdict"
                )
                assert candidate["pixels"] == pytest.approx(share_right(grid, answer))
                n_seen += 1
    assert n_seen >= 8


def mean_of(lines: list[Any], name: str) -> float | None:
    values = [line[name] for line in lines if name in line]
    return pytest.approx(sum(values) / len(values)) if values else None  # type: ignore[no-any-return]


def share_right(grid: list[list[int]], answer: list[list[int]]) -> float:
    if [len(row) for row in grid] != [len(row) for row in answer]:
        return 0.0
    cells = [a == b for row, other in zip(grid, answer, strict=True) for a, b in zip(row, other, strict=True)]
    return sum(cells) / len(cells)


def test_the_order_of_candidates_is_that_of_the_rule_of_the_run(scored: Path) -> None:
    """nvarc: votes less the mean likelihood; all three have one vote, and 7 the least NLL."""
    (query,) = run_view(scored, "a run")["tasks"]["t01"]["queries"]
    assert [candidate["grid"] for candidate in query["candidates"]] == ["7", "8", "9"]


def test_every_stage_says_what_the_report_says(scored: Path) -> None:
    told = json.loads((scored / "report.json").read_text())["reports"]
    view = run_view(scored, "a run")
    expected = [
        (
            each["task_id"],
            stage["job"]["stage"],
            stage["worker"],
            pytest.approx(stage["at_seconds"] - stage["outcome"]["seconds"]),
            stage["outcome"]["seconds"],
            stage["job"]["predicted_seconds"],
            stage["lost"],
            stage["job"]["max_seconds"],
            stage["job"]["views"],
        )
        for each in told
        for stage in each["stages"]
    ]
    names = ("task", "stage", "worker", "begin", "seconds", "predicted", "lost", "most", "views")
    assert [tuple(stage[name] for name in names) for stage in view["stages"] if stage["task"]] == expected
    assert {stage["stage"] for stage in view["stages"]} >= {"answer", "score"} or len(expected) > 6
    for each in told:
        task = view["tasks"][each["task_id"]]
        assert (task["verdict"], task["ended"]) == (each["verdict"], each["ended"])
        assert (task["tune"], task["infer_seconds"], task["dropped_pairs"]) == tuple(
            each["run"][name] for name in ("tune", "infer_seconds", "dropped_pairs")
        )


def test_the_head_says_what_the_config_says(scored: Path) -> None:
    config, told = (json.loads((scored / name).read_text()) for name in ("config.json", "report.json"))
    facts = run_view(scored, "a run")["facts"]
    assert facts == {
        "tasks": config["tasks"],
        "model": "box",
        "engine": told["engine"],
        "fine-tuning": f"none, {config['tune']['steps']} steps",
        "views": 4,
        "decoding": "greedy",
        "selected by": "nvarc",
        "seed": 0,
        "seconds": round(told["seconds"], 1),
        "limit, minutes": config["time_limit_minutes"],
    }


def test_the_pairs_are_those_of_the_tasks(scored: Path) -> None:
    tasks = json.loads((scored.parent / "tasks.json").read_text())
    for task_id, task in run_view(scored, "a run")["tasks"].items():
        text = {
            "/".join("".join(map(str, row)) for row in pair[side]) for pair in tasks[task_id]["train"] for side in pair
        }
        assert {grid for pair in task["train"] for grid in pair} == text
        assert [query["input"] for query in task["queries"]] == [
            "/".join("".join(map(str, row)) for row in pair["input"]) for pair in tasks[task_id]["test"]
        ]
