"""Evaluation: the scores of `solve`, part by part; what is done stays done, and other settings are never mixed in."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcessWorker, solve_here, workers_in_process
from processes import FOUR_VIEWS, fake_config, score_by_hand, task_values, wait_until, write_site, write_tasks
from strategies import TASK_JSON, WriteJson, prediction

from arc_kaggle.answering.submission import vote_task
from arc_kaggle.cli import main
from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.errors import ConfigError, ModelError, TaskError, WorkerError
from arc_kaggle.evaluation.columns import Column, Evaluation, Output, judge, view_counts
from arc_kaggle.evaluation.comparison import Comparison, best_of, compare, comparisons
from arc_kaggle.evaluation.curves import curve_points, draw_curves
from arc_kaggle.evaluation.evaluate import compare as compare_files
from arc_kaggle.evaluation.evaluate import evaluate, plan, seconds_left
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.evaluation.report import evaluation_json, evaluation_text, share
from arc_kaggle.models.card import ModelCard, write_card
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.task import task_from_json
from arc_kaggle.text.prompt_format import PromptFormat

ROOT = Path(__file__).parents[2]
PLAIN = PromptFormat("<bos>", "I", "O", "<eos>")


def model_folder(folder: Path, weights: str = "", recipe: str = "box", **facts: Any) -> Path:
    """A folder that looks like a model's; the fake engine never loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_text(weights or folder.name)
    write_card(folder, ModelCard(PLAIN, recipe, facts))
    return folder


class Clock:
    """Time that moves when told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def config_of(folder: Path, *checkpoints: Path, n_tasks: int = 9, **options: Any) -> EvaluateConfig:
    """An evaluation by the fake engine in parts of four tasks, into `folder`/judged."""
    chosen = {"recipes": ("none",), "part_size": 4, "engine": "fake", "workers": 1, **options}
    tasks = str(write_tasks(folder, n_tasks))
    return EvaluateConfig(checkpoints, tasks, folder / "judged", **{"generate": FOUR_VIEWS, **chosen})


def quietly(config: EvaluateConfig, **options: Any) -> tuple[Evaluation, list[str]]:
    """The evaluation, and the lines of its log."""
    lines: list[str] = []
    return evaluate(config, say=lines.append, **{"start": InProcessWorker, **options}), lines


# The scores -----------------------------------------------------------------------------------------------------------


def test_the_scores_are_those_of_one_run_of_solve(tmp_path: Path) -> None:
    found, lines = quietly(config_of(tmp_path))
    (column,) = found.columns
    whole = solve_here(fake_config(tmp_path / "whole", 9))
    assert column.scores == whole.scores and column.scores["kaggle"]["mean"] == pytest.approx(7 / 11)
    submissions = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("judged/*/*/*/submission.json"))]
    assert [len(part) for part in submissions] == [4, 4, 1]
    merged = tmp_path / "merged.json"
    merged.write_text(json.dumps({task_id: answer for part in submissions for task_id, answer in part.items()}))
    assert column.count("submitted") / len(column.outputs) == score_by_hand(merged, tmp_path / "tasks.json")
    assert (column.n_tasks, len(column.outputs), column.count("any_view")) == (9, 11, 7)
    assert sum(column.solved_tasks("two_attempts").values()) == 5  # the even ones
    assert [output.task_id for output in column.outputs if not output.two_attempts] == ["t01", "t03", "t05", "t07"]
    assert len(lines) == 3 and lines[0].startswith(
        "1 of 3 parts done; box/none: 4 of 9 tasks, test outputs solved 3/5 "
    )
    assert (tmp_path / "judged" / "log.txt").read_text().splitlines() == lines


RIGHT, WRONG, OTHER = [[6], [5]], [[1]], [[2]]


@pytest.mark.parametrize(
    ("said", "ways", "by_views"),
    [  # two attempts, one attempt, any view; then the vote of 1, 2, 4, 5 views
        ([RIGHT, WRONG, WRONG, WRONG, WRONG], (True, False, True), (True, True, True, True)),
        ([WRONG, WRONG, OTHER, OTHER, RIGHT], (False, False, True), (False, False, False, False)),
        ([WRONG, RIGHT, RIGHT, None, WRONG], (True, False, True), (False, True, True, True)),
        ([WRONG, OTHER, RIGHT, RIGHT, WRONG], (True, False, True), (False, False, True, True)),
        ([None, RIGHT, RIGHT, RIGHT, None], (True, True, True), (False, True, True, True)),
        ([None, None, None, None, None], (False, False, False), (False, False, False, False)),
    ],
)
def test_fewer_views_are_a_vote_of_the_first(said: list[Any], ways: Sequence[bool], by_views: Sequence[bool]) -> None:
    task = task_from_json("small", TASK_JSON)
    found = [prediction(grid, view) for view, grid in enumerate(said)]
    (output,) = judge([task], {"small": vote_task(task, found)}, {"small": found}, n_views=5)
    assert (output.submitted, output.one_attempt, output.any_view) == ways
    assert output.two_attempts == ways[0]
    assert output.by_views == by_views and output.one_view == by_views[0]


def test_what_was_submitted_is_apart_from_what_the_model_said() -> None:
    task = task_from_json("small", TASK_JSON)
    found = [prediction(WRONG, 0), prediction(WRONG, 1)]
    submitted = vote_task(task, [prediction(RIGHT)])
    (output,) = judge([task], {"small": submitted}, {"small": found}, n_views=2)
    assert output.submitted and not (output.two_attempts or output.one_attempt or output.any_view)
    assert output.by_views == (False, False)
    (output,) = judge([task], {"small": vote_task(task, found)}, {"small": [prediction(RIGHT, 1)]}, n_views=2)
    assert output.two_attempts and output.by_views == (False, True) and not output.submitted


@pytest.mark.parametrize(("n", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_numbers_of_views_double(n: int, counts: Sequence[int]) -> None:
    assert view_counts(n) == counts


def test_what_came_of_the_fine_tuning_is_counted_and_timed(tmp_path: Path) -> None:
    config = config_of(tmp_path, part_size=9)
    found, _ = quietly(config)
    assert found.columns[0].outcomes == {"not tuned": 9} and found.columns[0].tune_seconds == 0
    path = next(config.out.rglob("report.json"))
    report = json.loads(path.read_text())
    runs = [row["run"] for row in report["reports"]]
    for run in runs:
        run["infer_seconds"], run["tune"] = 2.0, {**run["tune"], "tuned": True, "reason": "", "seconds": 10.0}
    runs[1]["tune"] |= {"reason": "cut off after 3 steps", "cut_off": True, "seconds": 18.0}
    report["reports"][2]["run"] = None  # its worker died
    path.write_text(json.dumps(report))
    predictions = path.with_name("predictions") / "t02.jsonl"
    predictions.write_text(predictions.read_text().splitlines(True)[0])
    (column,) = quietly(config)[0].columns
    assert column.unanswered == {"no prediction": 3} and found.columns[0].unanswered == {}
    assert column.outcomes == {"tuned": 7, "cut off": 1, "no answer": 1}
    assert (column.tune_seconds, column.infer_seconds) == (11.0, 2.0)


def test_the_rest_is_estimated_by_recipe(tmp_path: Path) -> None:
    config = config_of(tmp_path, recipes=("none", "lora"))
    (model,) = find_model_folders([BOX_FOLDER])
    parts = plan(config, model, load_tasks(config.tasks))
    assert [len(part.tasks) for part in parts] == [4, 4, 4, 4, 1, 1]
    assert seconds_left(parts, {parts[0]: 40.0}) == (5 + 9) * 10
    assert seconds_left(parts, {parts[0]: 40.0, parts[1]: 400.0, parts[2]: 40.0}) == 1 * 10 + 5 * 100
    assert seconds_left(parts, dict.fromkeys(parts, 1.0)) == 0


# Parts that survive ---------------------------------------------------------------------------------------------------


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_finished_part_is_never_redone_and_a_begun_one_is(tmp_path: Path) -> None:
    config, clock = config_of(tmp_path, time_limit_minutes=1.0), Clock()
    line = tmp_path / "judged" / "box" / "none"

    def say(text: str) -> None:
        clock.seconds += 40

    partly = evaluate(config, clock, say)
    assert [path.name for path in sorted(line.iterdir())] == ["part-000", "part-001"]
    assert partly.columns[0].n_tasks == 8 and not partly.is_complete
    assert "NOT ALL DONE" in evaluation_text(partly) and "8 of 9" in evaluation_text(partly)
    (line / "part-001" / "part.json").unlink()  # as a kill in its middle leaves it
    (line / "part-001" / "predictions" / "t04.jsonl").write_text("spoilt\n")
    before = stamps(line / "part-000")
    found, lines = quietly(config)
    assert stamps(line / "part-000") == before
    assert [text[:16] for text in lines] == ["2 of 3 parts don", "3 of 3 parts don"]
    assert (
        found.is_complete
        and found.columns[0].scores == quietly(replace(config, out=tmp_path / "b"))[0].columns[0].scores
    )
    again, lines = quietly(config)
    assert lines == [] and again == found


def test_recipes_take_turns_and_a_longer_selection_goes_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, recipes=("none", "lora", "none"), select="0:4")
    first, lines = quietly(config)
    assert [column.recipe for column in first.columns] == ["none", "lora"]
    assert "4 of the 9 tasks" in evaluation_text(first)
    found, lines = quietly(replace(config, select=""))
    assert [re.findall(r"box/\w+", text)[0] for text in lines] == ["box/none", "box/lora"] * 2
    assert found.is_complete and found.n_selected == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "found results of seed 0, expected 1"),
        ({"generate": replace(FOUR_VIEWS, n_views=2)}, "found results of generate.n_views 4, expected 2"),
        ({"encoder": "rows+minimal"}, "found results of encoder '', expected 'rows.minimal'"),
        ({"part_size": 5}, "found results of tasks t00,t01,t02,t03, expected t00,t01,t02,t03,t04; .*--part-size"),
        ({"select": "1:9"}, "found results of tasks t00,.*, expected t01,.*--select"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_settings_are_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = config_of(tmp_path)
    quietly(config)
    before = stamps(config.out)
    with pytest.raises(ConfigError, match=f"part-000: {message}.* another --out"):
        quietly(replace(config, **change))
    assert stamps(config.out) == before


def test_other_weights_or_tasks_under_the_same_names_are_refused(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "weights", steps=1)
    config = config_of(tmp_path, model)
    quietly(config)
    model_folder(model, "weights", steps=2, hours=3)  # facts are no settings
    assert quietly(config)[1] == []
    model_folder(model, "weights after")
    with pytest.raises(ConfigError, match="found results of model '"):
        quietly(config)
    model_folder(model, "weights")
    values = task_values(9)
    values["t02"]["train"][0]["output"] = [[7]]
    Path(config.tasks).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"found results of tasks\.t02 '"):
        quietly(config)


def test_a_model_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", "weights")
    config = config_of(tmp_path, model)
    with pytest.raises(ModelError, match="m: changed while it was being judged"):
        evaluate(config, say=lambda text: str(model_folder(model, "trained on")))
    found = json.loads((config.out / "evaluation.json").read_text())
    assert found["columns"][0]["checkpoint"] == "m" and len(found["digests"]) == 9
    assert [path.parent.name for path in config.out.rglob("part.json")] == ["part-000"]


def test_killed_at_any_time_it_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle of a part, twice; what was through is kept, and the end is that of a run without kills."""
    config = config_of(tmp_path, n_tasks=6, part_size=2)
    words = ["--tasks", config.tasks, "--out", str(config.out), "--recipes", "none", "--part-size", "2"]
    words += ["--engine", "fake", "--generate.n-views", "4"]
    through: dict[str, int] = {}
    for number, task_id in ((1, "t02"), (2, "t04")):
        hang = f"time.sleep(600 if prediction.task_id == '{task_id}' and prediction.view else 0)"
        path = os.pathsep.join([str(write_site(tmp_path / "site", hang)), str(ROOT)])
        process = subprocess.Popen(
            [sys.executable, "-m", "arc_kaggle.cli", "evaluate", *words],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        )
        begun = config.out / "box" / "none" / f"part-{number:03}" / "predictions"
        wait_until(partial(any_file, begun), 120)
        process.kill()
        process.wait()
        done = [path.parent for path in sorted(config.out.rglob("part.json"))]
        assert [folder.name for folder in done] == [f"part-{i:03}" for i in range(number)]
        assert through.items() <= stamps(config.out).items()
        through = {name: at for folder in done for name, at in stamps(folder).items()}
    assert not (config.out / "evaluation.json").exists()
    found, lines = quietly(config)
    assert len(lines) == 1 and through.items() <= stamps(config.out).items()
    (column,), (straight,) = found.columns, quietly(replace(config, out=tmp_path / "straight"))[0].columns
    assert column.outputs == straight.outputs and column.scores == straight.scores


def test_a_part_whose_workers_all_died_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_site(tmp_path / "site", "os.kill(os.getpid(), signal.SIGKILL)")))
    config = config_of(tmp_path, n_tasks=2)
    with pytest.raises(
        WorkerError, match=r"part-000: its workers answered no task, see worker\.log: .*died by signal 9"
    ):
        quietly(config, start=None)
    assert not list(config.out.rglob("part.json"))
    monkeypatch.setenv("PYTHONPATH", "")
    assert quietly(config)[0].is_complete


def any_file(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob("*.jsonl"))


def test_what_cannot_be_judged_is_named(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    values = task_values(2)
    del values["t01"]["test"][0]["output"]
    (tmp_path / "hidden.json").write_text(json.dumps(values))
    with pytest.raises(TaskError, match="1 have no solution, the first is t01"):
        quietly(replace(config, tasks=str(tmp_path / "hidden.json")))
    with pytest.raises(ConfigError, match="did you mean 'box'"):
        quietly(replace(config, recipes=("bxo",)))
    with pytest.raises(ConfigError, match="part_size: found 0, expected 1 or more"):
        replace(config, part_size=0)
    with pytest.raises(ConfigError, match="recipes: found none, expected one or more"):
        replace(config, recipes=())
    with pytest.raises(ConfigError, match="compare: found 1 files and 0 checkpoints, expected two files or more"):
        replace(config, compare=(tmp_path / "evaluation.json",))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: cannot be written to"):
        quietly(replace(config, out=tmp_path / "file"))
    assert not config.out.exists()


# Which models ---------------------------------------------------------------------------------------------------------


def training_folder(folder: Path) -> Path:
    """What a training leaves: its model, equal to the newest checkpoint, and checkpoints, averages beside them."""
    for step in (20, 100, 3):
        model_folder(folder / "checkpoints" / f"step-{step}", f"weights {step}", steps=step, tokens=1000 * step)
        model_folder(folder / "checkpoints" / f"step-{step}" / "ema", f"mean {step}", steps=step, tokens=1000 * step)
    model_folder(folder / "checkpoints" / "step-120.partial", "half")
    model_folder(folder / ".merged", "left behind")
    (folder / "judged").mkdir()
    (folder / "judged" / "config.json").write_text('{"tasks": "what solve writes"}')
    return model_folder(folder, "weights 100", steps=100)


def test_checkpoints_are_found_below_in_the_order_of_their_steps(tmp_path: Path) -> None:
    folder = training_folder(tmp_path / "run")
    steps, means = (
        ["run.step-3", "run.step-20", "run.step-100"],
        ["run.step-3.ema", "run.step-20.ema", "run.step-100.ema"],
    )
    found = find_model_folders([folder])
    assert [model.name for model in found] == [*steps, *means]
    assert [model.series for model in found] == ["run"] * 3 + ["run.ema"] * 3
    assert [(model.step, model.tokens) for model in found[:2]] == [(3, 3000), (20, 20000)]
    one_by_one = sorted((folder / "checkpoints").glob("step-*[0-9]"))
    assert [model.name for model in find_model_folders(one_by_one)] == [*steps, *means]
    other = model_folder(tmp_path / "other", "more")
    assert [model.name for model in find_model_folders([other, folder])] == ["other", *steps, *means]


def test_tokens_of_the_model_that_training_went_on_from_count(tmp_path: Path) -> None:
    before = {"tokens": 500, "started_from": {"tokens": 70, "started_from": None}}
    folder = model_folder(tmp_path / "m", tokens=4, started_from=before)
    (found,) = find_model_folders([folder])
    assert (found.tokens, found.step) == (574, None)
    (folder / "arc_kaggle.json").unlink()
    (found,) = find_model_folders([folder])
    assert (found.tokens, found.step, found.card) == (None, None, None)


def test_folders_that_cannot_be_judged_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere: found neither a model's config\.json nor adapter_config\.json"):
        find_model_folders([tmp_path / "nowhere"])
    a, b = model_folder(tmp_path / "a" / "m", "one"), model_folder(tmp_path / "b" / "m", "two")
    with pytest.raises(ModelError, match=r"a/m and .*b/m: found the name 'm' for both"):
        find_model_folders([a, b])
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "some/hub-model"}')
    with pytest.raises(ModelError, match=r"adapter: found no model folder as its base \('some/hub-model' .*--base"):
        find_model_folders([adapter])
    assert find_model_folders([adapter], base=a)[0].base == a
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config.json: .*, expected a JSON object"):
        find_model_folders([adapter], base=a)


# Adapters -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the model that ships, also on embeddings and head; its factors are random."""
    import torch

    from arc_kaggle.config.tune import EVERYWHERE, LoraConfig
    from arc_kaggle.models.loading import load_model
    from arc_kaggle.tuning.tunable_weights import LoraAdapter

    lora = LoraAdapter(load_model(BOX_FOLDER, "fp32"), LoraConfig(rank=4, modules=EVERYWHERE))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in lora.parameters:
            parameter.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    lora.save(folder)
    return folder


def test_an_adapter_of_the_model_that_ships_is_judged(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command with a real model, asked in a process of its own."""
    tasks, out = write_tasks(tmp_path, 2), tmp_path / "judged"
    words = [str(adapter), "--tasks", str(tasks), "--out", str(out), "--recipes", "none", "--precision", "fp32"]
    assert main(["evaluate", *words, "--generate.n-views", "2"]) == 0
    printed = capsys.readouterr().out
    assert "all 2 tasks of" in printed and "1 of 1 parts done; mine/none: 2 of 2 tasks" in printed
    (column,) = Evaluation.read(out / "evaluation.json").columns
    assert column.name == f"{out}:mine/none"
    assert column.infer_seconds > 0 and column.outcomes == {"not tuned": 2}
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_an_adapter_that_does_not_fit_is_named(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers_in_process(monkeypatch)
    shutil.copytree(adapter, tmp_path / "bad")
    (tmp_path / "bad" / "adapter_model.safetensors").write_bytes(b"nothing")
    config = EvaluateConfig((tmp_path / "bad",), tasks=str(write_tasks(tmp_path, 1)), out=tmp_path / "out")
    with pytest.raises(WorkerError, match=r"adapter .*/bad: SafetensorError"):
        evaluate(replace(config, recipes=("none",)))


# Comparisons, text, curves --------------------------------------------------------------------------------------------


def column(
    solved: str, checkpoint: str = "m", recipe: str = "none", step: int | None = None, series: str = "", **ways: str
) -> Column:
    """A column of one output a task, two in the last, from strings of 0 and 1: two attempts, one attempt, one view."""
    given = {"all": solved, "two": solved, "one": solved, "view": solved, "any": solved, **ways}
    rows = [{name: bits[i] == "1" for name, bits in given.items()} for i in range(len(solved))]
    outputs = tuple(
        Output(
            f"t{min(i, len(solved) - 2)}",
            int(i == len(solved) - 1),
            r["all"],
            r["two"],
            r["one"],
            r["any"],
            (r["view"], r["two"]),
        )
        for i, r in enumerate(rows)
    )
    scores, unanswered = {"kaggle": {"mean": 0.5}}, {"no_end": 3}
    tokens = None if step is None else 1000 * step
    return Column(
        checkpoint,
        series or checkpoint,
        recipe,
        step,
        tokens,
        (1, 2),
        outputs,
        scores,
        unanswered,
        1.5,
        0.25,
        {"tuned": len(rows) - 1},
    )


def counts(found: Comparison) -> tuple[str, str, str, int, int, int]:
    paired = found.outputs
    return found.subject, found.first, found.second, paired.n, paired.only_first, paired.only_second


def test_tuning_is_compared_with_none_and_all_views_with_one() -> None:
    plain = column("100010", view="100000")
    tuned = column("011111", recipe="box", one="011101", view="010001")
    assert [counts(found) for found in comparisons([plain, tuned])] == [
        ("TTFT", "m/box", "m/none", 6, 4, 1),
        ("AIRV", "m/none two_attempts", "m/none one_view", 6, 1, 0),
        ("AIRV", "m/none one_attempt", "m/none one_view", 6, 1, 0),
        ("AIRV", "m/box two_attempts", "m/box one_view", 6, 3, 0),
        ("AIRV", "m/box one_attempt", "m/box one_view", 6, 2, 0),
    ]
    tasks = comparisons([plain, tuned])[0].tasks  # t4 has the last two outputs; only the tuned model solves both
    assert (tasks.n, tasks.both, tasks.only_first, tasks.only_second) == (5, 0, 4, 1)


def test_checkpoints_are_compared_with_the_last_of_their_training() -> None:
    columns = [
        column("1000", "a.step-1", step=1, series="a"),
        column("0111", "a.step-2", step=2, series="a"),
        column("0110", "a.step-3", step=3, series="a"),
        column("1100", "b"),
    ]
    found = [counts(c) for c in comparisons(columns) if c.subject != "AIRV"]
    assert found == [
        ("checkpoint", "a.step-3/none", "a.step-1/none", 4, 2, 1),
        ("checkpoint", "a.step-3/none", "a.step-2/none", 4, 0, 1),
        ("model", "b/none", "a.step-3/none", 4, 1, 1),
    ]
    assert best_of(columns).checkpoint == "a.step-2"


def evaluation(*columns: Column, n_whole: int = 400, select: str = "shortest:5") -> Evaluation:
    digests = {output.task_id: f"digest of {output.task_id}" for output in columns[0].outputs} if columns else {}
    return Evaluation("arc1:evaluation", select, 5, n_whole, digests, columns, {"versions": {}, "machine": "none"})


def test_no_figure_without_its_n_and_no_slice_without_its_whole() -> None:
    text = evaluation_text(evaluation(column("100010"), column("011111", recipe="box", one="011101", view="010001")))
    assert text.startswith("5 of the 400 tasks of arc1:evaluation (--select shortest:5)\n")
    row = next(line for line in text.splitlines() if line.startswith("m/box"))
    assert re.split(" {2,}", row) == [
        *(
            "m/box",
            "5 of 400",
            "5/6 83.3% (43.6..97.0)",
            "5/6 83.3% (43.6..97.0)",
            "4/6 66.7% (30.0..90.3)",
            "2/6 33.3% (9.7..70.0)",
        ),
        *("5/6 83.3% (43.6..97.0)", "4/5 80.0% (37.6..96.4)", "1.5 + 0.2"),
    ]
    assert "m/box: of 12 views unanswered by reason: no_end 3; of 5 tasks by fine-tuning: tuned 5" in text
    ttft = [re.split(" {2,}", line)[3:] for line in text.splitlines() if line.startswith("TTFT")]
    assert ttft == [
        ["6 outputs", "+50.0", "4", "1", "-", "-"],
        ["5 tasks", "+60.0", "4", "1", "-", "-"],
    ]
    assert text.endswith("- stands where fewer than 10 were compared, which are too few for a test.")
    whole = evaluation_text(evaluation(column("100010"), n_whole=5, select=""))
    assert whole.startswith("all 5 tasks of arc1:evaluation\n")
    assert (
        evaluation_text(evaluation(select=""))
        == "5 of the 400 tasks of arc1:evaluation (--select )\nnothing is through yet"
    )


def test_last_and_best_stand_side_by_side() -> None:
    steps = [column("011111", "a.step-1", step=1, series="a"), column("000011", "a.step-2", step=2, series="a")]
    text = evaluation_text(evaluation(*steps))
    assert (
        "a/none: of 2 checkpoints the last, a.step-2/none 2/6 33.3% (9.7..70.0), is behind the best, a.step-1/none 5/6 "
        "83.3% (43.6..97.0), by 50.0 points; these very outputs picked the best" in text
    )
    assert "a.step-1/none 5/6 83.3% (43.6..97.0), is the best" in evaluation_text(evaluation(*reversed(steps)))


def test_a_last_checkpoint_that_solves_as_much_as_the_best_is_not_behind_it_by_nothing() -> None:
    steps = [column("011111", "a.step-1", step=1, series="a"), column("111110", "a.step-2", step=2, series="a")]
    text = evaluation_text(evaluation(*steps))
    assert "is as good as the best, a.step-1/none 5/6 83.3% (43.6..97.0)\n" in text and "0.0 points" not in text


def test_ten_outputs_are_enough_for_a_test_and_nine_are_not() -> None:
    for n, n_tests in ((9, 0), (10, 1)):
        text = evaluation_text(evaluation(column("1" + "0" * (n - 1)), column("1" * n, recipe="box")))
        rows = [re.split(" {2,}", line) for line in text.splitlines() if line.startswith("TTFT")]
        assert sum(row[-2] != "-" for row in rows) == n_tests  # a task fewer than outputs


def test_single_answers_are_judged_beside_what_was_solved() -> None:
    scores = {"accuracy": (0.25, 0.1, 0.4), "correct_pixels": (0.5, 0.4, 0.6), "unanswered": (0.0, 0.0, 0.1)}
    plain = {name: dict(zip(("mean", "low", "high"), values, strict=True)) for name, values in scores.items()}
    text = evaluation_text(evaluation(replace(column("100010"), scores=plain)))
    (row,) = [re.split(" {2,}", line) for line in text.splitlines() if line.startswith("m/none  ") and "of" not in line]
    assert row == ["m/none", "25.0% (10.0..40.0)", "50.0% (40.0..60.0)", "-", "0.0% (0.0..10.0)"]


def test_curves_are_points_and_a_picture(tmp_path: Path) -> None:
    columns = [
        column("1000", "a.step-1", step=1, series="a", view="0000"),
        column("1110", "a.step-2", step=2, series="a", view="1000"),
        column("1110", "b", step=5),  # one point is no curve
    ]
    steps = {"a/none": [{"x": 1, "solved": 1, "n": 4}, {"x": 2, "solved": 3, "n": 4}]}
    points = curve_points(columns)
    assert points["steps"] == steps
    assert [point["x"] for point in points["tokens"]["a/none"]] == [1000, 2000]
    assert points["views"]["a.step-2/none"] == [{"x": 1, "solved": 1, "n": 4}, {"x": 2, "solved": 3, "n": 4}]
    draw_curves(columns, "4 outputs", tmp_path / "curves.svg")
    svg = (tmp_path / "curves.svg").read_text()
    assert all(
        f"<!-- {text} -->" in svg for text in ("training steps", "training tokens", "views that vote", "4 outputs")
    )
    assert svg.count("<!-- a/none, n = 4 -->") == 2
    draw_curves(columns[2:], "one panel", tmp_path / "curves.png")


def test_shares_are_readable() -> None:
    assert [share(0, 3), share(34, 419), share(0, 0)] == [
        "0/3 0.0% (0.0..56.1)",
        "34/419 8.1% (5.9..11.1)",
        "0/0 0.0% (0.0..100.0)",
    ]


# Runs of different times ----------------------------------------------------------------------------------------------


def saved(folder: Path, value: Evaluation) -> Path:
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(evaluation_json(value), allow_nan=False))
    return folder / "evaluation.json"


def test_runs_of_different_times_are_compared_by_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = saved(tmp_path / "one", evaluation(column("100010"), column("110010", recipe="box")))
    second = saved(tmp_path / "two", evaluation(column("111110", recipe="box")))
    assert main(["evaluate", "--compare", str(first), str(second)]) == 0
    text = capsys.readouterr().out
    assert text.count("5 of the 400 tasks of arc1:evaluation") == 2
    rows = [re.split(" {2,}", line) for line in text.splitlines() if line.startswith("evaluation")]
    names = ["evaluation", f"{second.parent}:m/box", f"{first.parent}:m/box"]
    assert rows == [
        [*names, "6 outputs", "+33.3", "2", "0", "-", "-"],
        [*names, "5 tasks", "+40.0", "2", "0", "-", "-"],
    ]


def test_an_evaluation_is_read_back_as_it_was(tmp_path: Path) -> None:
    value = evaluation(column("100010", view="000010"), column("110010", recipe="box", step=7))
    read = Evaluation.read(saved(tmp_path / "one", value))
    assert [compare("", a, b).outputs.both for a, b in zip(read.columns, value.columns, strict=True)] == [2, 3]
    where = f"{tmp_path / 'one'}:m"
    assert read == replace(value, columns=tuple(replace(c, checkpoint=where, series=where) for c in value.columns))


def test_evaluations_of_other_tasks_are_refused(tmp_path: Path, write_json: WriteJson) -> None:
    first = saved(tmp_path / "one", evaluation(column("1000")))
    changed = evaluation(column("1000"))
    other = saved(tmp_path / "two", replace(changed, digests={**changed.digests, "t1": "another"}))
    apart = saved(tmp_path / "three", replace(changed, digests={"x": "y"}))
    with pytest.raises(ConfigError, match="found 1 tasks of equal id but other grids, the first is t1"):
        compare_files([first, other])
    with pytest.raises(ConfigError, match="found no common task"):
        compare_files([first, apart])
    with pytest.raises(ConfigError, match=r"none.json: FileNotFoundError.*, expected an evaluation.json"):
        compare_files([first, tmp_path / "none.json"])
    with pytest.raises(ConfigError, match=r"bad.json: KeyError\('columns'\), expected an evaluation.json"):
        compare_files([first, write_json("bad.json", {})])


# The leaderboard ------------------------------------------------------------------------------------------------------


def leaderboard() -> Any:
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "benchmarks" / "leaderboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_docs_show_the_leaderboard_as_its_file_has_it() -> None:
    board = leaderboard()
    entries = json.loads(board.BOARD.read_text())
    assert board.leaderboard_table(entries) in (ROOT / "docs" / "results.md").read_text()
    assert all(entry["edition"] and entry["commit"] and entry["n_tasks"] == entry["n_whole"] for entry in entries)


def test_readme_begins_with_the_newest_edition() -> None:
    entries = json.loads(leaderboard().BOARD.read_text())
    of_the_box = [each["solved"] for each in entries if (each["recipe"], each["tasks"]) == ("box", "arc1:evaluation")]
    first_screen = (ROOT / "README.md").read_text().partition("## ")[0]
    assert [way for way in ("airv", "none") if share(*of_the_box[-1][way]) not in first_screen] == []


def test_an_edition_is_added_from_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = leaderboard()
    monkeypatch.setattr(board, "BOARD", tmp_path / "board.json")
    board.BOARD.write_text("[]")
    value = evaluation(column("100010", step=7), column("011111", recipe="box", step=7, view="010001"), n_whole=5)
    value = replace(value, made_with={"versions": {"torch": "2"}, "machine": "m"})
    words = ["leaderboard", "--add", str(saved(tmp_path / "one", value)), "--edition", "1: first"]
    monkeypatch.setattr(sys, "argv", [*words, "--date", "2026-01-01", "--commit", "abc"])
    board.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| 1: first | 0.0M | 5 of the 5 of arc1:evaluation | 2/6 33.3% (9.7..70.0) | 2/6 33.3% (9.7..70.0) | "
        "5/6 83.3% (43.6..97.0) | 5/6 83.3% (43.6..97.0) | +50.0 points of 6 (p 0.4) | +50.0 points of 6 (p 0.2) |"
    ]
    (entry,) = json.loads(board.BOARD.read_text())
    assert (entry["edition"], entry["date"], entry["commit"], entry["recipe"]) == (
        "1: first",
        "2026-01-01",
        "abc",
        "box",
    )
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        board.main()
    assert board.leaderboard_table([]) == ""
