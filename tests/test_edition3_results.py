"""What follows the training of edition 3: every step at toy size, done once, and forecasts that find what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import few_joint_steps, joint_stage_in_process, workers_in_process

from arc_kaggle.evaluation.columns import Evaluation
from arc_kaggle.evaluation.study.table import StudyRow
from arc_kaggle.models.card import read_card

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("edition3_results")


def test_all_steps_go_through_once(results: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a training of twelve steps to the tables; a second call does nothing, and too few hours are kept to."""
    workers_in_process(monkeypatch)
    joint_stage_in_process(monkeypatch)
    few_joint_steps(monkeypatch)
    options = results.toy_options(tmp_path / "out", real_model=None)
    assert results.run(replace(options, hours={**results.HOURS, "joint": 0.0})) == 1
    assert [path.stem for path in sorted((options.out / "steps").iterdir())] == ["model", "recipe"]
    assert results.run(options) == 0
    done = json.loads(options.result.read_text())["steps"]
    assert list(done) == list(results.STEPS)
    check_model(options, done["model"])
    assert json.loads((options.out / "recipe.json").read_text()) == done["recipe"]["chosen"]
    names = ["none", "joint", "single", "joint + single"]
    assert [row["row"] for row in done["joint"]["rows"]] == names
    assert done["real"]["left_out"] == "no --real-model was named"
    check_evaluation(options, done["evaluate"][options.sizes.sets[0]])
    assert [n for n, *_ in done["curve"]["solved"]["points"]] == sorted(
        n for n, *_ in done["curve"]["solved"]["points"]
    )
    assert len(done["curve"]["points"]) == 6 and "laws" in done["curve"]["loss"]
    board = json.loads(options.board.read_text())
    assert [row["edition"] for row in board] == ["3: GridLM", "3: GridLM, joint + TTFT"]
    text = (options.out / "edition3.md").read_text()
    assert all(f"\n## {head}" in text for head in ("The recipe", "Joint and single", "All 3 tasks of", "Over tokens"))
    stamps = {path: path.stat().st_mtime_ns for path in (options.out / "steps").iterdir()}
    assert results.run(options) == 0
    assert {path: path.stat().st_mtime_ns for path in (options.out / "steps").iterdir()} == stamps


def check_model(options: Any, told: dict[str, Any]) -> None:
    card = read_card(options.model)
    assert card is not None and card.facts["leaks_now"] == told["leaks"] and card.facts["steps"] == 12
    assert told["bytes"] == sum(path.stat().st_size for path in options.model.iterdir())
    named = "ema" if told["weights"] == "moving average" else "."
    assert (options.model / "model.safetensors").read_bytes() == (
        options.checkpoint / named / "model.safetensors"
    ).read_bytes()


def check_evaluation(options: Any, told: dict[str, Any]) -> None:
    """The counts are those of the evaluation on disk, and every column stands beside edition 2's."""
    evaluation = Evaluation.read(next(options.out.glob("evaluate/*/evaluation.json")))
    assert [column.recipe for column in evaluation.columns] == ["none", "box", "joint + TTFT"] == list(told["solved"])
    for column in evaluation.columns:
        assert column.n_tasks == 3 == told["n_tasks"]
        assert told["solved"][column.recipe]["any_view"] == [column.count("any_view"), len(column.outputs)]
    subjects = [each["subject"] for each in told["comparisons"]]
    assert subjects[:3] == ["joint", "edition 2, two_attempts", "edition 2, one_view"]
    assert subjects.count("edition 2, two_attempts") == 3 and "TTFT" in subjects and "AIRV" in subjects


def test_leaks_that_the_training_did_not_leave_out_are_told(results: Any, tmp_path: Path) -> None:
    from train_data import CLEAN, SECRET, write_tasks_file

    data = Path(write_tasks_file(tmp_path / "rules.json", [*CLEAN, SECRET]))
    against = (write_tasks_file(tmp_path / "against.json", [SECRET]),)
    facts = {
        "data": ["rules.json=2"],
        "settings": {"hold_out": 0.1, "seed": 0, "against": against},
        "leaks_left_out": [],
    }
    options = results.Options(*[tmp_path] * 2, data, None, None, *[tmp_path] * 3, {}, results.Sizes())
    found = results.leaks_of(facts, options)
    assert found["found_now"] == 1 and found["trained_on"][0].startswith("rule secret: 4 of 4 pairs leak")
    facts["leaks_left_out"] = found["trained_on"]
    assert results.leaks_of(facts, options)["trained_on"] == []


def test_a_power_law_is_found_and_told_for_ten_times_the_tokens(results: Any) -> None:
    """The fall of the learning rate, which took a tenth of the loss, is taken to come again."""
    tokens = np.geomspace(1e6, 1e8, 30)
    plain = results.forecast(tokens, 3.0 * tokens**-0.15, 1e8, 0.9 * 3.0 * 1e8**-0.15)
    law = plain["laws"]["without a floor"]
    assert law["b"] == pytest.approx(-0.15) and law["at_ten_times"] == pytest.approx(0.9 * 3.0 * 1e9**-0.15)
    floored = results.forecast(tokens, 0.2 + 40 * tokens**-0.4, 1e8, 0.2 + 40 * 1e8**-0.4)
    assert floored["laws"]["with a floor"]["at_ten_times"] == pytest.approx(0.2 + 40 * 1e9**-0.4, abs=0.005)
    low, high = floored["at_ten_times_95"]
    assert low < floored["laws"]["without a floor"]["at_ten_times"] < 0.2 < high


def test_solved_puzzles_grow_by_so_many_points_a_tenfold(results: Any) -> None:
    def row(n_solved: int) -> StudyRow:
        return StudyRow("", {(f"p{i:02}", 0, 0): {"vote_2": float(i < n_solved)} for i in range(20)})

    found = results.solved_over_tokens({10**6: row(2), 10**8: row(10), 10**7: row(6)})
    assert [share for _, share, _ in found["points"]] == [0.1, 0.3, 0.5]
    assert found["points_a_tenfold"] == pytest.approx(0.2)
    low, high = found["points_a_tenfold_95"]
    assert 0 < low < 0.2 < high < 0.4


def test_the_best_row_is_that_of_the_docstring(results: Any) -> None:
    def row(name: str, vote: float, accuracy: float, seconds: float) -> StudyRow:
        return StudyRow(name, {("p", 0, 0): {"vote_2": vote, "accuracy": accuracy}}, seconds)

    rows = [row("a", 0.5, 0.9, 1.0), row("b", 1.0, 0.2, 9.0), row("c", 1.0, 0.3, 9.0), row("d", 1.0, 0.3, 5.0)]
    assert results.best_of(rows).name == "d"
    assert [results.best_of(rows, most).name for most in (4.0, 0.5)] == ["a", "a"]  # the only one, and the fastest
    assert results.best_of([row("e", 0.9, 0.9, 30.0), row("f", 0.1, 0.1, 12.0)]).name == "f"
    assert [path.name for path in results.spread([Path(str(i)) for i in range(20)], 3)] == ["0", "10", "19"]
