"""Studies: what is declared is what runs, what is done stays done, and tables say what the predictions on disk say."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import InProcessWorker
from processes import task_values, write_tasks
from strategies import prediction

from arc_kaggle.answering.metrics import prediction_scores
from arc_kaggle.cli import main
from arc_kaggle.config.command_line import config_of_words
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.evaluation.study.catalogue import STUDIES, find_study, given_words, grid
from arc_kaggle.evaluation.study.puzzles import as_puzzle, study_tasks
from arc_kaggle.evaluation.study.reading import (
    SIZE_NAMES,
    Answers,
    asked_of,
    family_of,
    read_kinds,
    read_sizes,
    read_views,
    read_ways,
)
from arc_kaggle.evaluation.study.study import in_order, run_study, titles_of
from arc_kaggle.evaluation.study.table import StudyRow, as_csv, bases_of, markdown
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Pair, Query, Task

FAKE = ("engine=fake", "recipe=none", "generate.n-views=4")


def study_of(folder: Path, name: str = "sweep", n_tasks: int = 9, **options: Any) -> StudyConfig:
    """A study by the fake engine in parts of four puzzles, into `folder`/study."""
    chosen: dict[str, Any] = {"over": ("generate.n-views=1,4",), "set": FAKE, "part_size": 4, "seeds": 2, **options}
    return StudyConfig(name, tasks=str(write_tasks(folder, n_tasks)), out=folder / "study", **chosen)


def quietly(config: StudyConfig, **options: Any) -> tuple[list[StudyRow], list[str]]:
    lines: list[str] = []
    return run_study(config, lines.append, **{"start": InProcessWorker, **options}), lines


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
        assert given_words([text]) == words[0]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nonsense"], "study 'nonsense': no such study, expected one of sweep, predictions"),
        (["sweep"], "study sweep: found no --over"),
        (["sweep", "--over", "tune.steps"], "option over: found 'tune.steps', expected NAME=VALUE"),
        (["sweep", "--over", "tune.steps=1,,2"], "option over: found 'tune.steps=1,,2'"),
        (["temperature", "--set", "seed"], "option set: found 'seed', expected NAME=VALUE"),
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


class Ticking:
    """Every look at it takes so many seconds."""

    def __init__(self, step: float) -> None:
        self.seconds, self.step = 0.0, step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds


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
    asked = asked_of(run)
    assert asked.ways == ("votes", "cells", "probability", *more) and (asked.n_views, asked.seed) == (2, 3)
    assert [name for name, _ in read_ways(replace(answers(RIGHT, WRONG), ways=asked.ways))] == list(asked.ways)


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


def test_the_tasks_of_the_fixture_are_as_told() -> None:
    assert json.loads(json.dumps(task_values(9)))["t03"]["test"][1]["output"] == [[5, 6]] * 4


# Rows of runs that are there, trainings and tokens --------------------------------------------------------------------


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


TINY = ("steps=4", "save-every=2", "hidden-size=32", "n-layers=1", "validation-puzzles=2")
SHORT = ("tokens-per-batch=256", "max-tokens=128", "first-max-tokens=128", "precision=fp32", "hold-out=0.6")


@pytest.fixture
def few_probed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trainings", "study"):
        monkeypatch.setattr(f"arc_kaggle.evaluation.study.{module}.PROBED_STEPS", 4)


def test_a_study_trains_its_models_and_judges_every_checkpoint(few_probed_steps: None, tmp_path: Path) -> None:
    from train_data import CLEAN, write_tasks_file

    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    config = study_of(
        tmp_path,
        "checkpoints",
        n_tasks=4,
        over=(),
        seeds=1,
        set=("recipe=none", "generate.n-views=1"),
        train=(*TINY, *SHORT, f"data={data}"),
    )
    rows, lines = quietly(config)
    assert [each.name for each in rows] == ["training, step 2", "training, step 4"]
    assert lines[0].startswith("1 models of seed 0: about 0.00 h of training to go")
    assert "vote_2 against training, step 4" in (tmp_path / "study" / "table.md").read_text()
    with (tmp_path / "study" / "table.csv").open() as file:
        assert [line["against"] for line in csv.DictReader(file)] == ["training, step 4", ""]
    curves = (tmp_path / "study" / "curves.csv").read_text().splitlines()
    assert curves[0].startswith("model,seed,step,validation_loss") and len(curves) == 1 + 3
    assert (tmp_path / "study" / "curves.svg").is_file()
    again, lines = quietly(config)
    assert len(lines) == 2 and [each.values for each in again] == [each.values for each in rows]
    with pytest.raises(ConfigError, match="study checkpoints: found --models, expected none"):
        quietly(replace(config, models=(tmp_path,)))


def test_the_last_and_the_best_of_a_training_are_rows_and_the_best_step_is_told(
    few_probed_steps: None, tmp_path: Path
) -> None:
    """At a rate at which it gets worse the best model is not the last one."""
    from train_data import CLEAN, write_tasks_file

    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    training = (*TINY, *SHORT, f"data={data}", "optim.learning-rate=0.3")
    settings: dict[str, Any] = {"n_tasks": 4, "over": (), "seeds": 1, "set": ("recipe=none", "generate.n-views=1")}
    config = study_of(tmp_path, "loss", train=training, **settings)
    rows, _ = quietly(config)
    kinds = ("last_output", "outputs_but_first", "outputs", "everything")
    assert [each.name for each in rows] == [f"{kind}, {which}" for kind in kinds for which in ("last", "best")]
    table = (tmp_path / "study" / "trainings.md").read_text().splitlines()[2:]
    with (tmp_path / "study" / "curves.csv").open() as file:
        points = [(row["model"], int(row["step"]), float(row["validation_loss"])) for row in csv.DictReader(file)]
    for kind, line in zip(kinds, table, strict=True):
        own = {step: loss for name, step, loss in points if name == kind}
        best = min(own, key=lambda step: own[step])
        cells = line.strip("| ").split(" | ")
        assert cells[:4] == [kind, "0", str(best), f"{own[best]:.4f}"] and cells[5] == "4"
        assert best < 4


def test_models_of_texts_are_trained_and_judged_in_their_own_encodings(tmp_path: Path) -> None:
    """Two rows of `encoders`, from their models' first step to the tables."""
    from train_data import CLEAN, SECRET, write_tasks_file

    study = STUDIES["encoders"]
    study = replace(study, models={name: study.models[name] for name in ("plain", "symbols + shape + rows")})
    data = write_tasks_file(tmp_path / "rules.json", [*CLEAN])
    against = write_tasks_file(tmp_path / "against.json", [SECRET])
    short = (
        "steps=2",
        "save-every=2",
        "examples-per-batch=1",
        "max-symbols=120",
        "validation-puzzles=1",
        "hold-out=0.6",
    )
    options: dict[str, Any] = {"over": (), "seeds": 1, "set": ("generate.n-views=1", "generate.max-new-tokens=4")}
    config = study_of(
        tmp_path,
        "encoders",
        n_tasks=2,
        train=(*short, "precision=fp32", f"data={data}", f"against={against}"),
        **options,
    )
    rows, _ = quietly(config, study=study)
    assert [(each.name, each.n_tasks) for each in rows] == [(name, 2) for name in study.models]
    assert {"table.md", "trainings.md", "curves.svg"} <= {path.name for path in (tmp_path / "study").iterdir()}
    seen = [
        json.loads(path.read_text())["encoder"] for path in sorted((tmp_path / "study").glob("models/seed-0/*/arc*"))
    ]
    assert seen == ["minimal", "shape+rows+replace('ñò÷ûąćďęĚĞ')+minimal"]


def test_hours_that_are_too_few_for_a_seed_train_none_of_its_models(few_probed_steps: None, tmp_path: Path) -> None:
    from train_data import CLEAN, write_tasks_file

    training = (*TINY, *SHORT, f"data={write_tasks_file(tmp_path / 'rules.json', [*CLEAN])}", "steps=50000")
    config = study_of(tmp_path, "dropping-pairs", n_tasks=4, over=(), train=training)
    rows, lines = quietly(replace(config, hours=0.01))
    assert rows == [] and "seed 0: " in lines[-1] and "of which two thirds may be training: it ends here" in lines[-1]
    assert not (tmp_path / "study" / "models").exists()
    rows, lines = quietly(replace(config, plan=True))
    assert rows == [] and lines[-1].startswith("judged as they were after 4 steps, each once a seed: 3 rows x 1 seeds")


@pytest.mark.parametrize("name", ["encoders", "system-prompt"])
def test_rows_in_other_encodings_see_the_same_grids_in_the_same_steps(name: str, tmp_path: Path) -> None:
    """All text but cells and row ends is taken out; what is left is equal in all rows."""
    from arc_kaggle.evaluation.study.trainings import training_config, write_small_model
    from arc_kaggle.models.loading import load_model
    from arc_kaggle.training.examples import ExampleSource
    from arc_kaggle.training.mixture import load_mixture
    from arc_kaggle.training.packing import BatchStream

    config = StudyConfig(name, out=tmp_path, train=("against=arc1:evaluation", "data=synth:0.2"))
    write_small_model(tmp_path / "models" / "small-0", 0)
    seen = []
    for row_name in STUDIES[name].models:
        training = training_config(STUDIES[name], config, row_name, 0)
        model = load_model(tmp_path / "models" / "small-0", "fp32", "cpu", training.prompt, training.encoder)
        stream = BatchStream(ExampleSource(load_mixture(training), model.notation, training), model.pad_id)
        rows = [
            ids[ids != model.pad_id].tolist() for step in (1, 600) for batch in stream[step, 0] for ids in batch.ids
        ]
        assert len(rows) == 32 and max(map(len, rows)) < 0.9 * training.max_tokens, "none had to leave pairs out"
        seen.append(sorted(grids_in(model.tokenizer.decode(row), model.notation) for row in rows))
    assert all(each == seen[0] for each in seen[1:])


def grids_in(text: str, notation: Any) -> str:
    """The grids of a prompt as digits, with slashes for row ends."""
    text = text.translate(str.maketrans("ñò÷ûąćďęĚĞ", "0123456789"))
    text = re.sub(r"[^\d \n]+", "\n", re.sub(r"shape: \d+x\d+", "", text))
    lines = (re.sub(r"^ *\d+ (?=\d)", "", line).strip() for line in text.split("\n"))
    return "/".join(line for line in lines if line and not line.isspace())


def test_the_small_model_keeps_symbols_digits_and_row_numbers_apart() -> None:
    from arc_kaggle.models.new_model import new_text_model
    from arc_kaggle.text.box_tokenizer import TEXT
    from arc_kaggle.text.encoders import parse_encoder
    from arc_kaggle.text.presets import PRESETS

    model = new_text_model(32, 1, 0)
    assert len(model.tokenizer) == len(TEXT) == len(set(TEXT)) == 111
    for words in STUDIES["encoders"].models.values():
        encoder = parse_encoder(shlex.split(words)[-1])
        text = encoder.encode(as_grid([[x % 10 for x in range(12)]] * 11))
        assert len(model.notation.ids(text)) == len(text) and model.tokenizer.decode(model.notation.ids(text)) == text
    chat = PRESETS["arc24"].format
    assert model.tokenizer.decode(model.notation.ids(chat.begin)) == chat.begin


def test_tokens_of_all_puzzles_are_kept_and_compared(tmp_path: Path) -> None:
    from arc_kaggle.evaluation.study.token_pictures import draw_tokens

    config = StudyConfig("tokens", tasks=str(write_tasks(tmp_path, 3)), out=tmp_path / "study", window=8, query=1)
    text = draw_tokens(config)
    cells = [json.loads(line) for line in (tmp_path / "study" / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 6 and (tmp_path / "study" / "table.md").read_text() == text
    for line, context in zip(text.splitlines()[2:], ("full", "last 8"), strict=True):
        means = [np.mean(each["entropy"]) for each in cells if each["context"] == context]
        assert line.startswith(f"| box, {context} context | 3 | {np.mean(means):.3f} (")
    with (tmp_path / "study" / "tokens.csv").open() as file:
        drawn = [float(row["entropy_nats"]) for row in csv.DictReader(file) if row["context"] == "full"]
    kept = next(each for each in cells if each["puzzle"] == "t01" and each["context"] == "full")
    assert drawn == pytest.approx(np.ravel(kept["entropy"]), abs=1e-5)
    assert draw_tokens(config) == text and len((tmp_path / "study" / "cells.jsonl").read_text().splitlines()) == 6
    short = replace(config, out=tmp_path / "short", hours=0.05)
    assert "| 2 |" in draw_tokens(short, lambda _: None, Ticking(30.0)), "180 s, of which a puzzle takes 30"


def test_a_window_hides_tokens_and_moves_none() -> None:
    """With one layer nothing that is hidden comes through others; what is left stands where it stood."""
    import torch
    from models import alone, lively_model

    from arc_kaggle.evaluation.study.token_pictures import _logits
    from arc_kaggle.models.new_model import new_grid_model

    model = alone(new_grid_model(64, 1, 0))
    model.network.load_state_dict(lively_model(0, "grid alone").network.state_dict(), strict=False)
    ids, places, window = np.random.default_rng(0).integers(16, size=60), np.arange(5, 60), 12
    near = torch.ones(60, 60, dtype=torch.bool).tril().triu(1 - window)
    mask = torch.zeros(60, 60).masked_fill_(~near, torch.finfo(torch.float32).min)[None, None]
    with torch.inference_mode():
        expected = model.network(input_ids=torch.from_numpy(ids)[None], attention_mask=mask).logits[0, 4:59]
        torch.testing.assert_close(_logits(model, ids, places, window), expected, rtol=1e-4, atol=1e-4)


def test_every_cell_has_the_token_that_says_its_colour() -> None:
    from arc_kaggle.config.model import BOX_FOLDER
    from arc_kaggle.evaluation.study.token_pictures import cell_places, cells_of
    from arc_kaggle.models.loading import load_model

    model = load_model(BOX_FOLDER, "fp32", "cpu")
    answer = as_grid([[1, 2, 3], [4, 5, 6]])
    ids, places = model.notation.completion_ids(answer), cell_places(answer, model.notation)
    assert [[model.tokenizer.decode([ids[place]])[0] for place in line] for line in places] == [
        list("123"),
        list("456"),
    ]
    pairs = tuple(Pair(as_grid([[i, 2]]), as_grid([[2, i]])) for i in (1, 3))
    query = Query(Task("t", pairs, (Pair(as_grid([[4, 2, 1]]), answer),)), 0)
    full, wide, narrow = (cells_of(model, query, window) for window in (0, 4096, 8))
    from arc_kaggle.engines.hf.engine import HFEngine
    from arc_kaggle.system.deadline import Deadline
    from arc_kaggle.text.prompt import query_prompt
    from arc_kaggle.text.tokens import tokenize

    prompt = tokenize(query_prompt(query, model.notation), model.tokenizer).ids
    ends = [[*map(int, ids[: place + 1])] for place in places.ravel()]
    starts = [end[:-1] for end in ends]
    scored = [np.array(each, dtype=np.int64) for each in (*ends, *(start for start in starts if start))]
    ((_, nlls),) = HFEngine(model).score([prompt], [scored], Deadline.never())
    after = dict(zip(map(tuple, (each.tolist() for each in scored)), nlls, strict=True))
    expected = [
        np.exp(after.get(tuple(start), 0.0) - after[tuple(end)]) for start, end in zip(starts, ends, strict=True)
    ]
    np.testing.assert_allclose(full["right"].ravel(), expected, rtol=1e-3)
    np.testing.assert_allclose(wide["entropy"], full["entropy"], rtol=1e-3)
    assert np.abs(narrow["entropy"] - full["entropy"]).max() > 0.01
    assert (full["confidence"] >= full["right"] - 1e-12).all() and (full["entropy"] >= 0).all()
