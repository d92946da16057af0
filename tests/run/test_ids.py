"""A task may have any id: what is written about it stays in the run's own folders and is found again there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from processes import FOUR_VIEWS, score_by_hand, task_values

from arc_kaggle import SolveConfig, solve
from arc_kaggle.answering.candidates import read_prediction_folder
from arc_kaggle.commands.combine import CombineConfig, combine
from arc_kaggle.commands.score import ScoreConfig, score
from arc_kaggle.commands.show import ShowConfig, show
from arc_kaggle.errors import ConfigError
from arc_kaggle.run.folder import clear
from arc_kaggle.run.journal import Journal
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.worker.adapter_store import Adapters

ODD_IDS = [
    *("", ".", "..", "...", "../evil", "../../evil", "../../../victim", "/evil", "a/b", "a\\b", "a\0b", "a\nb", "a,b"),
    *("a" * 300, "a" * 299 + "b", "é" * 90, "\ud800", "\x1b[2J", "%", "%41", "A", "a", "nul", " ", "-x", ".hidden"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[SolveConfig, SolveResult]:
    """A run of the fake engine over tasks of odd ids, four folders deep; it may touch the deepest alone."""
    folder = tmp_path_factory.mktemp("ids") / "a" / "b" / "c"
    folder.mkdir(parents=True)
    tasks = folder / "tasks.json"
    tasks.write_text(json.dumps(dict(zip(ODD_IDS, task_values(len(ODD_IDS)).values(), strict=True))))
    options = {"engine": "fake", "recipe": "none", "workers": 1, "scratch": folder / "scratch"}
    config = SolveConfig(str(tasks), folder / "out", generate=FOUR_VIEWS, **options)
    return config, solve(config)


def files_outside(inside: Path, root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(inside)]


def test_a_run_writes_nothing_outside_its_folder_and_reads_back_all_of_it(run: tuple[SolveConfig, SolveResult]) -> None:
    config, result = run
    assert files_outside(config.out.parent, config.out.parents[3]) == []
    lines = {path.parent.relative_to(config.out).as_posix() for path in config.out.rglob("*.jsonl")}
    assert lines == {".", "predictions"}
    predictions = read_prediction_folder(config.out / "predictions")
    assert sorted(predictions) == sorted(ODD_IDS)
    assert {prediction.task_id for found in predictions.values() for prediction in found} == set(ODD_IDS)
    assert result.scores["kaggle"]["mean"] == score_by_hand(config.out / "submission.json", Path(config.tasks))
    assert score(ScoreConfig(config.out, config.tasks))["accuracy"] == result.scores["accuracy"]


def test_a_run_goes_on_with_what_it_left(run: tuple[SolveConfig, SolveResult]) -> None:
    config, first = run
    before = (config.out / "stages.jsonl").read_bytes()
    again = solve(replace(config, workers=2))
    assert (config.out / "stages.jsonl").read_bytes() == before
    assert again.scores == first.scores


def test_combine_finds_the_evidence_of_odd_ids(run: tuple[SolveConfig, SolveResult]) -> None:
    config, _ = run
    second = config.out.with_name("second")
    shutil.copytree(config.out, second)
    whole = CombineConfig((config.out, second), config.tasks, config.out.with_name("pooled"))
    assert combine(whole).n_unanswered == 0
    assert files_outside(config.out.parent, config.out.parents[3]) == []
    assert sorted(read_prediction_folder(whole.out / "predictions")) == sorted(ODD_IDS)


class OneFileTuner:
    """A tuner whose weights are one small file."""

    n_bytes = 1

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(folder))

    def load(self, folder: Path) -> None:
        assert (folder / "weights").read_text() == str(folder)


def test_adapters_are_kept_and_dropped_below_their_own_folder(tmp_path: Path) -> None:
    adapters, tuner = Adapters(tmp_path / "a" / "b" / "adapters", 1e9), OneFileTuner()
    victim = tmp_path / "victim" / "precious.txt"
    victim.parent.mkdir()
    victim.write_text("precious")
    for task_id in ODD_IDS:
        assert adapters.save(task_id, tuner) == ""  # type: ignore[arg-type]
    assert all(adapters.load(task_id, tuner) for task_id in ODD_IDS)  # type: ignore[arg-type]
    assert len(list(adapters.folder.iterdir())) == len(ODD_IDS)
    assert files_outside(adapters.folder, tmp_path) == [victim]
    for task_id in ODD_IDS:
        adapters.drop(task_id)
    assert list(adapters.folder.iterdir()) == []
    assert victim.read_text() == "precious"


def test_what_is_a_link_is_not_deleted(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "weights").write_text("precious")
    adapters = Adapters(tmp_path / "adapters", 1e9)
    adapters.folder.mkdir()
    (adapters.folder / "a").symlink_to(victim)
    adapters.drop("a")
    assert (victim / "weights").read_text() == "precious"


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    for name in ("predictions/t00.jsonl", "scores/t00.jsonl.damaged", "report.json", "worker1.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a run's")
    (tmp_path / "predictions" / "notes.txt").write_text("precious")
    clear(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"predictions", "predictions/notes.txt"}


def test_overwrite_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "t00.jsonl").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions").symlink_to(tmp_path / "victim")
    config = SolveConfig("arc1:training", tmp_path / "out", overwrite=True)
    with pytest.raises(ConfigError, match=r"folder .*out: cannot be written to \(it is a link and is not removed\)"):
        Journal(config, ())
    assert (tmp_path / "victim" / "t00.jsonl").read_text() == "precious"


def test_pictures_of_odd_ids_lie_in_the_folder_that_was_named(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.json"
    chosen = ["../evil", "a/b", "a" * 300, "\ud800"]
    tasks.write_text(json.dumps(dict(zip(chosen, task_values(4).values(), strict=True))))
    out = tmp_path / "pictures" / "task.svg"
    list(show(ShowConfig(str(tasks), ":", out=out), width=80))
    assert len(list(out.parent.iterdir())) == 4
    assert files_outside(out.parent, tmp_path) == [tasks]
