"""The report page's numbers against the files that they come from, and a page that nothing can break out of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import solve_here
from processes import fake_config, task_values

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.commands.report import ReportConfig, report, run_names
from arc_kaggle.errors import ArcKaggleError, ConfigError, SubmissionError
from arc_kaggle.evaluation.page.build import digest, embedded, page
from arc_kaggle.evaluation.run_view import KINDS, grid_text, kind_of, run_view
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
    assert sum(row["seconds"] for row in view["stages"]) == pytest.approx(
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
    from arc_kaggle.answering.vote import rank_candidates

    found = [prediction(grid, view) for view, grid in enumerate(grids)]
    assert kind_of(Query(TASK, 0), found, rank_candidates(found), attempts) == kind


def test_without_an_answer_nothing_is_judged() -> None:
    found = [prediction(WRONG)]
    from arc_kaggle.answering.vote import rank_candidates

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
    assert policy == (f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:")


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
