"""Studies: what is declared is what runs, what is done stays done, and tables say what the predictions on disk say."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcessWorker
from processes import task_values, write_tasks
from studies import FAKE, Ticking, quietly, study_of

from arc_kaggle.answering.metrics import prediction_scores
from arc_kaggle.cli import main
from arc_kaggle.config.command_line import config_of_words
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.evaluation.study.catalogue import STUDIES, find_study, given_words, grid
from arc_kaggle.evaluation.study.puzzles import as_puzzle, study_tasks
from arc_kaggle.evaluation.study.study import run_study, titles_of
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Pair

# Declarations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "tokens"])
def test_every_row_of_every_study_is_a_command_line(name: str, tmp_path: Path) -> None:
    study = find_study(name, ("tune.steps=1,2",) if name == "sweep" else ())
    configs = [
        config_of_words(SolveConfig, ["--tasks", "a", "--out", "b", *shlex.split(f"{study.fixed} {words}")])
        for words in study.rows.values()
    ]
    assert len({str(config) for config in configs}) == len(configs) or name == "continue-adapter"
    trained = [
        config_of_words(TrainConfig, ["--out", "c", *shlex.split(f"{study.training} {words}".format(small=tmp_path))])
        for words in study.models.values()
    ]
    assert len({str(config) for config in trained}) == len(trained)


def test_every_combination_is_a_row() -> None:
    found = grid("tune.steps=25,50", "tune.optim.learning-rate=1e-3,3e-3", "four_bit=false")
    assert list(found) == [
        f"steps={steps} learning-rate={rate} four_bit=false" for steps in (25, 50) for rate in ("1e-3", "3e-3")
    ]
    assert found["steps=25 learning-rate=3e-3 four_bit=false"] == (
        "--tune.steps 25 --tune.optim.learning-rate 3e-3 --no-four-bit"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("encoder=minimal,separated('|')", [["--encoder", "minimal"], ["--encoder", "separated('|')"]]),
        ("encoder=replace('a,b c')+minimal", [["--encoder", "replace('a,b c')+minimal"]]),
        ("encoder=separated(')')", [["--encoder", "separated(')')"]]),
        ("tune.lora.modules=q k,v", [["--tune.lora.modules", "q", "k"], ["--tune.lora.modules", "v"]]),
    ],
)
def test_what_stands_in_quotes_or_brackets_is_one_value(text: str, words: list[list[str]]) -> None:
    assert [shlex.split(each) for each in grid(text).values()] == words
    if len(words) == 1:
        assert given_words([text], "set") == words[0]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nonsense"], "study 'nonsense': no such study, expected one of sweep, predictions"),
        (["sweep"], "study sweep: found no --over"),
        (["sweep", "--over", "tune.steps"], "option over: found 'tune.steps', expected NAME=VALUE"),
        (["sweep", "--over", "tune.steps=1,,2"], "option over: found 'tune.steps=1,,2'"),
        (["temperature", "--set", "seed"], "option set: found 'seed', expected NAME=VALUE such as generate.n-views=8"),
        (["loss", "--train", "steps"], "option train: found 'steps', expected NAME=VALUE such as steps=400"),
        (["sweep", "--over", "tune.stepps=1,2"], "Unrecognized options"),
        (["sweep", "--over", "tune.steps=1,x"], "x"),
        (["sweep", "--over", "tune.steps=1,-2"], "tune.steps: found -2"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--tasks", str(write_tasks(tmp_path, 4)), "--out", str(tmp_path / "study")]
    assert main(["study", *words, *rest]) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.glob("study/probe/**/*.json")) and not list(tmp_path.glob("study/runs/**/*.json"))


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)


# Puzzles --------------------------------------------------------------------------------------------------------------


def test_held_out_puzzles_are_those_that_no_training_takes() -> None:
    """By the digest of the id; then synthetic ones of seeds below those of training; none from an evaluation set."""
    from arc_kaggle.training.mixture import unit_digest

    tasks = study_tasks("held-out", 40, 600)
    assert len(tasks) == 40 and all(prompt_length(task) <= 600 and len(task.train) >= 2 for task in tasks)
    public = [task for task in tasks if not task.id.startswith("synth-")]
    assert len(public) >= 10 and all(unit_digest(task.id) < TrainConfig(Path()).hold_out for task in public)
    evaluation = {task.id for name in ("arc1", "arc2") for task in load_tasks(f"{name}:evaluation")}
    assert not evaluation & {task.id for task in tasks}
    assert [task.id for task in study_tasks("held-out", 40, 600)] == [task.id for task in tasks]


def test_an_evaluation_set_has_no_puzzle_for_a_study() -> None:
    with pytest.raises(TaskError, match="found none of at most 900 symbols that no evaluation set contains"):
        study_tasks("arc1:evaluation", 10, 900)


def test_a_puzzle_has_as_many_pairs_as_fit() -> None:
    pairs = tuple(Pair(as_grid([[i]]), as_grid([[i]])) for i in range(5))
    whole, shorter = as_puzzle("a", pairs, 18), as_puzzle("a", pairs, 13)
    assert whole is not None and (len(whole.train), whole.test) == (4, pairs[4:])
    assert shorter is not None and (len(shorter.train), shorter.test) == (2, pairs[2:3])
    assert as_puzzle("a", pairs, 9) is None and as_puzzle("a", pairs[:2], 99) is None


# Runs -----------------------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_files_say(tmp_path: Path) -> None:
    """Every score of every row, from the predictions on disk alone."""
    rows, lines = quietly(study_of(tmp_path))
    assert [row.name for row in rows] == ["n-views=1", "n-views=4"] and [len(row.values) for row in rows] == [22, 22]
    assert lines[0].startswith("2 rows x 2 seeds x 9 puzzles: about 0.00 h to go")
    assert len(lines) == 1 + 2 * 3 * 2
    tasks = load_tasks(tmp_path / "study" / "tasks.json")
    with (tmp_path / "study" / "table.csv").open() as file:
        table = {row["row"]: row for row in csv.DictReader(file)}
    for row in rows:
        folders = sorted((tmp_path / "study" / "runs").glob(f"{row.name.replace('=', '*')}*/seed-0/part-*"))
        assert len(folders) == 3
        found = {path.stem: said(path) for folder in folders for path in (folder / "predictions").glob("*.jsonl")}
        expected = prediction_scores(found, tasks)
        for name, score in expected.items():
            assert float(table[row.name][name]) == pytest.approx(score.mean, abs=1e-5)
    assert table["n-views=4"]["accuracy_shows"] == "too few" and table["n-views=1"]["accuracy_shows"] == ""
    assert {"table.md", "figure.svg"} <= {path.name for path in (tmp_path / "study").iterdir()}


def said(path: Path) -> list[Any]:
    from arc_kaggle.answering.candidates import read_predictions

    return read_predictions(path)


def test_what_is_done_stays_done_and_is_not_mixed_with_other_settings(tmp_path: Path) -> None:
    config = study_of(tmp_path)
    first, _ = quietly(config)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part.json")}
    again, lines = quietly(config)
    assert len(lines) == 1 and "about 0.00 h to go" in lines[0]
    assert [(row.name, row.values) for row in again] == [(row.name, row.values) for row in first]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part.json")} == stamps
    with pytest.raises(ConfigError, match=r"found results of generate\.keep_background 0\.9, expected 0\.5"):
        quietly(replace(config, set=(*FAKE, "generate.keep-background=0.5")))
    with pytest.raises(ConfigError, match=r"found puzzles .*; take another --out"):
        quietly(replace(config, n_tasks=5))


def test_a_part_that_was_interrupted_is_done_again_and_the_others_are_not(tmp_path: Path) -> None:
    config = study_of(tmp_path)
    first, _ = quietly(config)
    lost = next(path for path in sorted(tmp_path.rglob("part-001/part.json")) if "runs" in path.parts)
    lost.unlink()
    again, lines = quietly(config)
    assert len(lines) == 2 and lines[1].startswith("seed 0, part 1: n-views=1, 4 puzzles")
    assert [row.values for row in again] == [row.values for row in first]


def test_the_hours_are_kept_and_all_rows_have_the_same_puzzles(tmp_path: Path) -> None:
    """Ten minutes a look at the clock: three turns fit an hour and some."""
    config = study_of(tmp_path, hours=0.75)
    rows, lines = quietly(config, clock=Ticking(600.0))
    assert "ends it here" in lines[-1] or "it ends here" in lines[-1]
    keys = [set(row.values) for row in rows]
    assert keys[0] == keys[1] and 0 < len(keys[0]) < 22
    whole, _ = quietly(replace(config, hours=None))
    assert [len(row.values) for row in whole] == [22, 22]
    assert all(whole[i].values[key] == rows[i].values[key] for i in (0, 1) for key in keys[0])


def test_a_plan_alone_runs_nothing_but_the_probe(tmp_path: Path) -> None:
    rows, lines = quietly(study_of(tmp_path, plan=True))
    assert rows == [] and len(lines) == 1 and not (tmp_path / "study" / "runs").exists()


def test_rows_of_one_run(tmp_path: Path) -> None:
    """`predictions` reads its rows from one run: the first 1, 2 and 4 views."""
    config = study_of(tmp_path, "predictions", over=(), seeds=1)
    rows, _ = quietly(config)
    assert [row.name for row in rows] == ["1", "2", "4"]
    assert all(row.mean("accuracy").mean == pytest.approx(7 / 11) for row in rows)


OTHERS = {"sweep", "tokens", "joint", "temperature", "beam", "best-of"}
"""Studies with tests of their own, or that need a real engine."""
PLAIN = [name for name, study in STUDIES.items() if not study.models and name not in OTHERS]


@pytest.mark.parametrize("name", PLAIN)
def test_every_study_of_runs_goes_through(name: str, tmp_path: Path) -> None:
    """At toy size, by the fake engine: all its rows in its table, each over the same puzzles."""
    rows, _ = quietly(study_of(tmp_path, name, n_tasks=3, over=(), seeds=1, set=("engine=fake",)))
    if STUDIES[name].reads == "runs":
        assert [row.name for row in rows] == [name or "box" for name in STUDIES[name].rows]
        assert all(set(row.values) == set(rows[0].values) and len(row.values) == 3 for row in rows)
    else:
        assert len(rows) >= 1
    with (tmp_path / "study" / "table.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == [row.name for row in rows]


def test_a_second_model_begins_nothing_anew(tmp_path: Path) -> None:
    """The runs of the first one stay where they are, though the names of its rows change."""
    from arc_kaggle.models.loading import save_model
    from arc_kaggle.models.new_model import new_grid_model

    for seed, name in enumerate(("one", "two")):
        save_model(new_grid_model(32, 1, seed), tmp_path / name, "box", {})
    config = study_of(tmp_path, n_tasks=3, seeds=1, models=(tmp_path / "one",))
    quietly(config)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("part.json")}
    rows, _ = quietly(replace(config, models=(tmp_path / "one", tmp_path / "two")))
    assert [each.name for each in rows] == [f"{m} n-views={n}" for m in ("one", "two") for n in (1, 4)]
    assert len(stamps) == 4 and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list(tmp_path.rglob("part.json"))) == 8, "as many again, and none of the first model in another folder"


def test_progress_tells_turns_and_hours_of_all_calls(tmp_path: Path) -> None:
    """Ten minutes a look at the clock: the first call ends early, and its tables are there."""
    config, path = study_of(tmp_path, hours=0.75), tmp_path / "study" / "progress.json"
    quietly(config, clock=Ticking(600.0))
    first = json.loads(path.read_text())
    assert first["is_through"] is False and 0 < first["turns_through"] < first["turns"] == 6 and first["hours"] > 0.5
    quietly(replace(config, hours=None), clock=Ticking(600.0))
    second = json.loads(path.read_text())
    assert second["is_through"] is True and second["turns_through"] == 6 and second["hours"] > first["hours"]


def test_where_no_turn_fits_it_says_what_would(tmp_path: Path) -> None:
    _, lines = quietly(study_of(tmp_path, hours=0.01), clock=Ticking(60.0))
    assert re.search(r"it ends here; give --hours 0\.1 or more, or a smaller --part-size$", lines[-1])


def test_the_table_is_written_after_every_turn(tmp_path: Path) -> None:
    """So that a kill loses the turn that runs, and nothing else."""
    seen: list[int] = []

    class Stopping(Exception):
        pass

    def say(line: str) -> None:
        if line.startswith("seed 0, part 2"):
            with (tmp_path / "study" / "table.csv").open() as file:
                seen.extend(int(each["n_outputs"]) for each in csv.DictReader(file))
            raise Stopping

    with pytest.raises(Stopping):
        run_study(study_of(tmp_path), say, start=InProcessWorker)
    assert seen == [10, 10], "eight puzzles, two of them with two test inputs"


def test_what_others_take_while_hours_are_told_is_said() -> None:
    from arc_kaggle.evaluation.study.load import Load

    looks = iter([(10.0, 5.0), (20.0, 17.0), (20.0, 17.0), (20.5, 99.0), (20.0, 1.0), (30.0, 3.0)])
    first = Load(lambda: next(looks))
    assert str(first).startswith("; measured while other programs took 1.2 of ")
    assert str(Load(lambda: next(looks))) == "", "half a second says nothing"
    assert str(Load(lambda: next(looks))) == "", "a fifth of a core is nothing"


def test_the_tasks_of_the_fixture_are_as_told() -> None:
    assert json.loads(json.dumps(task_values(9)))["t03"]["test"][1]["output"] == [[5, 6]] * 4


def test_rows_are_read_from_runs_that_are_there(tmp_path: Path) -> None:
    """Those of a study's own run, and nothing is run."""
    quietly(study_of(tmp_path, "predictions", over=(), seeds=2))
    runs = tuple(sorted((tmp_path / "study" / "runs").glob("*/seed-*/part-*")))
    assert len(runs) == 6
    rows, lines = quietly(StudyConfig("predictions", runs=runs, out=tmp_path / "read"))
    assert (tmp_path / "read" / "table.csv").read_text() == (tmp_path / "study" / "table.csv").read_text()
    assert lines == [] and len(rows) == 3
    assert [each.name for each in quietly(StudyConfig("augmentations", runs=runs, out=tmp_path / "kinds"))[0]][:2] == [
        "as given",
        "quarter turn left",
    ]
    table = (tmp_path / "kinds" / "table.csv").read_text()
    with io.StringIO(table) as file:
        against = {line["row"]: line["against"] for line in csv.DictReader(file)}
    assert against["quarter turn left"] == "as given" and against["colours permuted, 0 kept"] == "colours as given"
    assert (against["as given"], against["colours as given"], against["order permuted"]) == ("", "", "order as given")
    with pytest.raises(ConfigError, match=r"found puzzle t\d\d under seed 0, which a run before it of the same model"):
        quietly(StudyConfig("predictions", runs=(*runs, runs[0]), out=tmp_path / "twice"))
    with pytest.raises(ConfigError, match="study temperature: found --runs, expected none"):
        quietly(StudyConfig("temperature", runs=runs, out=tmp_path / "other"))
    with pytest.raises(ConfigError, match="expected a folder that `arc-kaggle solve` wrote"):
        quietly(StudyConfig("predictions", runs=(tmp_path,), out=tmp_path / "other"))


def test_models_of_runs_that_are_there_are_told_apart() -> None:
    assert titles_of([("x/box", None)] * 2) == ["", ""]
    assert titles_of([("x/box", None), ("y/real", None), ("x/box", None)]) == ["box", "real", "box"]
    assert titles_of([("x/box", None), ("y/box", None)]) == ["x/box", "y/box"]
    assert titles_of([("m", "a/lora"), ("m", "b/lora")]) == ["a/lora", "b/lora"]
    assert titles_of([("m", "lora"), ("n", "lora"), ("m", None)]) == ["m with lora", "n with lora", "m with None"]
