"""Runs on a pretrained adapter, and runs that keep the tuned weights of every task and answer with them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import workers_in_process
from processes import write_tasks

from arc_kaggle.cli import main
from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.model import BOX_FOLDER, ModelOptions
from arc_kaggle.config.tune import EVERYWHERE, LoraConfig
from arc_kaggle.models.loading import load_model
from arc_kaggle.tuning.tunable_weights import LoraAdapter

RANK = 4
QUICK = ("--precision", "fp32", "--generate.n-views", "2", "--quick-views", "1", "--workers", "1", "--engine", "hf")


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    workers_in_process(monkeypatch)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the model that ships, also on embeddings and head; its factors are random."""
    lora = LoraAdapter(load_model(BOX_FOLDER, "fp32"), LoraConfig(RANK, modules=EVERYWHERE))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in lora.parameters:
            parameter.normal_(std=0.05)
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    lora.save(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"), 2)


def run(tasks: Path, out: Path, *words: str) -> dict[str, Any]:
    """What `solve` reports of each task. Its code is 3 where no answer of a model with random factors ends."""
    assert main(["solve", "--tasks", str(tasks), "--out", str(out), *QUICK, *words]) in (0, 3)
    reports = json.loads((out / "report.json").read_text())["reports"]
    return {report["task_id"]: report["run"] for report in reports}


def answers(out: Path) -> list[tuple[str, int, int, str, float]]:
    lines = [json.loads(line) for path in sorted(out.glob("predictions/*")) for line in path.read_text().splitlines()]
    found = [(v["task_id"], v["query"], v["view"], v["text"], round(v["log_prob"], 2)) for v in lines]
    return sorted(found)


def test_without_tuning_the_adapter_answers_as_the_merged_model_does(
    adapter: Path, tasks: Path, tmp_path: Path
) -> None:
    assert main(["merge", str(BOX_FOLDER), str(adapter), "--out", str(tmp_path / "merged")]) == 0
    run(tasks, tmp_path / "a", "--adapter", str(adapter), "--recipe", "none")
    run(tasks, tmp_path / "b", "--model", str(tmp_path / "merged"), "--recipe", "none")
    run(tasks, tmp_path / "c", "--recipe", "none")
    assert answers(tmp_path / "a") == answers(tmp_path / "b") != answers(tmp_path / "c")


def test_tuned_weights_are_kept_and_answer_again(adapter: Path, tasks: Path, tmp_path: Path) -> None:
    """In peft's format, with the rank of the pretrained adapter; the options of tuning are of no account then."""
    kept, on = tmp_path / "kept", ("--adapter", str(adapter), "--recipe", "lora", "--tune.lora.rank", "9")
    rate = ("--tune.optim.learning-rate", "3e-3")
    first = run(tasks, tmp_path / "a", *on, *rate, "--tune.steps", "3", "--keep-adapters", str(kept))
    assert [each["tune"]["tuned"] for each in first.values()] == [True, True]
    folders = {json.loads((folder / "task.json").read_text())["task_id"]: folder for folder in kept.iterdir()}
    assert folders.keys() == first.keys()
    assert {lora_of(folder).rank for folder in folders.values()} == {RANK}
    again = run(tasks, tmp_path / "b", *on, "--adapters", str(kept))
    assert answers(tmp_path / "a") == answers(tmp_path / "b")
    assert all(each["tune"]["reason"] == f"before, in {folders[task_id]}" for task_id, each in again.items())
    missing = sorted(folders)[0]
    shutil.rmtree(folders[missing])
    less = run(tasks, tmp_path / "c", *on, "--adapters", str(kept))
    assert less[missing]["tune"]["reason"] == f"no tuned weights of the task in {kept}"
    assert (less[missing]["tune"]["tuned"], less[sorted(folders)[1]]["tune"]["tuned"]) == (False, True)


def test_kept_weights_of_another_model_are_not_taken(adapter: Path, tasks: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    quick = ("--recipe", "lora", "--tune.lora.rank", str(RANK), "--tune.steps", "1")
    run(tasks, tmp_path / "a", *quick, "--keep-adapters", str(kept))
    found = run(tasks, tmp_path / "b", *quick, "--adapter", str(adapter), "--adapters", str(kept))
    assert all("made for something else: adapter: found None" in each["tune"]["reason"] for each in found.values())


def test_a_folder_that_holds_no_tuned_weights_is_refused(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["solve", "--tasks", str(tasks), "--out", str(tmp_path / "out"), "--adapters", str(tmp_path)]
    assert main(words) == 2
    assert f"option adapters: found no tuned weights in {tmp_path}" in capsys.readouterr().err


def test_its_card_comes_before_that_of_the_model(adapter: Path, tmp_path: Path) -> None:
    """Prompt, encoder and recipe are those that it was trained with."""
    shutil.copytree(adapter, tmp_path / "mine")
    assert ModelOptions(adapter=tmp_path / "mine").card_folder == BOX_FOLDER
    card = json.loads((BOX_FOLDER / "arc_kaggle.json").read_text())
    (tmp_path / "mine" / "arc_kaggle.json").write_text(json.dumps({**card, "recipe": "none"}))
    options = ModelOptions(adapter=tmp_path / "mine")
    assert (options.card_folder, options.tune.weights) == (tmp_path / "mine", "none")
    assert ModelOptions().tune.weights == "all"
