"""`train` as a whole: seeded, clean of evaluation tasks, exact over stops, ending in a folder that loads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import lively_model, weights_of
from processes import wait_until
from train_data import CLEAN, leaks, random_task, rows_of, source_of, tiny_config, with_leak, write_tasks_file

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError, LeakError, ModelError, PromptError
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.models.new_model import new_grid_model
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.log import read_log
from arc_kaggle.training.loop import TrainLoop
from arc_kaggle.training.mixture import FileSource, split_rules
from arc_kaggle.training.session import train
from arc_kaggle.training.validation import make_validation


def state_of(config: TrainConfig, step: int) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(config.out / "checkpoints" / f"step-{step:08}" / "state.pt")
    return state


def same_state(a: Any, b: Any) -> bool:
    """Whether two checkpoints hold the same, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_state, a, b))
    return bool(a == b)


def test_equal_seeds_give_equal_runs_and_others_do_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = tiny_config(tmp_path)
    second, other = replace(first, out=tmp_path / "second"), replace(first, out=tmp_path / "other", seed=1)
    for config in (first, second, other):
        train(config)
        torch.rand(3)  # nothing depends on the global generator
    told = capfd.readouterr().err
    assert "3/3" in told and "loss=" in told and "\r" not in told  # lines in a log
    assert rows_of(first) == rows_of(second)
    assert [row["step"] for row in rows_of(first)] == [0, 1, 2, 3]
    assert same_state(state_of(first, 3), state_of(second, 3))
    pairs = zip(rows_of(first)[1:], rows_of(other)[1:], strict=True)
    assert all(row["loss"] != another["loss"] for row, another in pairs)
    assert not same_state(state_of(first, 3)["weights"], state_of(other, 3)["weights"])


def test_a_longer_run_learns_and_is_validated_at_every_saving(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, steps=25, save_every=10)
    facts = train(replace(config, optim=replace(config.optim, learning_rate=0.01)))
    rows = rows_of(config)
    assert rows[-1]["loss"] < 0.93 * rows[1]["loss"]
    assert [row["step"] for row in rows if "validation_loss" in row] == [0, 10, 20, 25]
    assert all(0 <= row["validation_solved"] <= 2 for row in rows if "validation_loss" in row)
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    assert facts["validation_puzzles"] == {"data.json": 2}


def test_what_is_trained_loads_and_says_how_it_was_made(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, recipe="lora")
    facts = train(config)
    model, card = load_model(config.out), read_card(config.out)
    assert card is not None
    assert (card.recipe, card.facts, card.prompt_format) == ("lora", facts, model.notation.format)
    told = (facts["steps"], facts["data"], facts["leaks_trained_on"], facts["started_from"])
    assert told == (3, ["data.json"], [], None)
    (source,) = source_of(config).mixture.sources
    assert isinstance(source, FileSource)
    _, held = split_rules((*source.training, *source.validation), config.hold_out)
    assert facts["held_out_rules"] == sorted(rule.id for rule in held) != []
    assert facts["validation_loss"] > 0
    assert facts["settings"]["seed"] == 0
    assert facts["tokens"] == rows_of(config)[-1]["tokens"] > 3 * 256


def test_training_goes_on_from_a_folder(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    train(config)
    facts = train(replace(config, start=config.out, out=tmp_path / "next", hidden_size=640))
    assert (facts["started_from"]["steps"], facts["started_from"]["started_from"]) == (config.steps, None)
    assert load_model(tmp_path / "next").network.config.hidden_size == 32


@pytest.mark.parametrize("architecture", ["llama", "grid"])
def test_a_new_model_writes_grids_in_one_way(tmp_path: Path, architecture: str) -> None:
    config = tiny_config(tmp_path, architecture=architecture)
    assert replace(config, encoder="minimal").encoder == "minimal"
    with pytest.raises(ConfigError, match=r"encoder: found 'rows\+minimal', expected minimal: a new model has a token"):
        replace(config, encoder="rows+minimal")


def test_a_new_model_may_know_pairs_rows_and_columns(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, architecture="grid", batching="packed", steps=12)
    facts = train(replace(config, optim=replace(config.optim, matrices="muon", learning_rate=0.01)))
    model = load_model(config.out)
    assert (model.network.config.model_type, model.encoder.spec) == ("arc_grid_lm", "minimal")
    assert facts["loss"] < rows_of(config)[1]["loss"]
    with pytest.raises(ConfigError, match=r"architecture: found grid, expected it for a new model alone"):
        replace(config, start=config.out)


@leaks
def test_leaks_are_refused_or_told(tmp_path: Path, leaking: Task, said: str) -> None:
    config = with_leak(tiny_config(tmp_path), leaking)
    with pytest.raises(LeakError):
        train(config)
    assert not config.out.exists()
    dropped = train(replace(config, drop_leaks=True, steps=1))
    assert (dropped["leaks_left_out"], dropped["leaks_trained_on"]) == ([said], [])
    allowed = train(replace(config, allow_leak=True, steps=1, out=tmp_path / "allowed"))
    assert (allowed["leaks_left_out"], allowed["leaks_trained_on"]) == ([], [said])
    assert allowed["settings"]["allow_leak"] is True


def test_holding_nothing_out_gives_no_validation_loss(tmp_path: Path) -> None:
    facts = train(tiny_config(tmp_path, hold_out=0.0))
    assert (facts["validation_loss"], facts["validation_solved"], facts["held_out_rules"]) == (None, 0, [])


def test_a_held_out_rule_that_does_not_fit_is_not_validated_on(tmp_path: Path) -> None:
    large = [random_task(f"large{i}", 3, side=16) for i in range(40)]
    config = tiny_config(tmp_path)
    config = replace(config, data=(*config.data, write_tasks_file(tmp_path / "large.json", large)))
    validation = make_validation(source_of(config), 0)
    assert (validation.n_puzzles["large.json"], validation.examples["large.json"]) == (0, [])
    assert validation.n_puzzles["data.json"] == 1  # two are shared by two sources
    facts = train(config)
    assert len({*facts["held_out_rules"]} & {task.id for task in large}) >= 4
    assert facts["validation_loss/data.json"] > 0
    assert facts["validation_loss/large.json"] is None


def test_held_out_puzzles_are_solved_where_the_rule_is_easy(tmp_path: Path) -> None:
    """Every output is the same grid, which no view changes."""
    blank = np.zeros((1, 1), dtype=np.int8)
    easy = [replace(task, train=tuple(replace(pair, output=blank) for pair in task.train)) for task in CLEAN]
    path = write_tasks_file(tmp_path / "easy.json", [replace(task, test=task.train[:1]) for task in easy])
    config = tiny_config(tmp_path, data=(path,), keep_background=1.0, steps=60, save_every=60, hidden_size=64)
    train(replace(config, optim=replace(config.optim, learning_rate=0.01)))
    solved = [row["validation_solved"] for row in rows_of(config) if "validation_solved" in row]
    assert solved == [0, 2]


def test_an_example_that_teaches_nothing_stops_training_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlabelled(source: ExampleSource, rng: np.random.Generator, max_tokens: int) -> Example:
        example = draw(source, rng, max_tokens)
        return Example(example.ids, np.full_like(example.labels, NOT_TRAINED))

    draw = ExampleSource.draw
    monkeypatch.setattr(ExampleSource, "draw", unlabelled)
    with pytest.raises(PromptError, match="found no label"):
        train(tiny_config(tmp_path))


# stops


def start(config: TrainConfig, **environment: str) -> subprocess.Popen[str]:
    """The command line, in a process of its own."""
    words = ["--data", *config.data, "--against", *config.against]
    for name in ("out", "steps", "tokens_per_batch", "tokens_per_pass", "max_tokens", "hidden_size", "n_layers", "ema",
                 "precision", "hold_out", "validation_puzzles", "save_every", "data_workers", "architecture",
                 "bucket", "start"):  # fmt: skip
        if (value := getattr(config, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--optim.matrices", config.optim.matrices]
    command = [sys.executable, "-m", "arc_kaggle.cli", "train", *words]
    return subprocess.Popen(command, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def tiny_grid_model(folder: Path) -> Path:
    """The folder of a model from which a process starts soon, for it imports no transformers."""
    save_model(new_grid_model(32, 1, 0), folder / "start", "box", {})
    return folder / "start"


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    start_from = tiny_grid_model(tmp_path)
    through = tiny_config(tmp_path, steps=30, save_every=4, ema=0.9, start=start_from, bucket=32)
    through = replace(through, optim=replace(through.optim, matrices="muon"))
    killed = replace(through, out=tmp_path / "killed")
    train(through)
    with start(killed) as process:
        wait_until(lambda: process.poll() is not None or len(read_log(killed.out / "log.jsonl")) >= 12, seconds=120)
        assert process.poll() is None, process.communicate()
        process.kill()
    assert 11 <= len(read_log(killed.out / "log.jsonl")) < 31
    train(replace(killed, data_workers=1))
    assert rows_of(killed) == rows_of(through)
    assert same_state(state_of(killed, 30), state_of(through, 30))
    assert weights_of(load_model(killed.out).network) == weights_of(load_model(through.out).network)
    facts = [card.facts for card in map(read_card, (killed.out, through.out)) if card]
    assert facts[0]["tokens"] == facts[1]["tokens"]


def stop_behind(config: TrainConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a training that is interrupted behind a step."""
    keep = TrainLoop.keep

    def stop(self: Any, row: dict[str, Any], log: Any) -> None:
        keep(self, row, log)
        if row["step"] == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainLoop, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config)


@pytest.mark.parametrize("stopped_at", [1, 2, 3])
def test_a_run_goes_on_within_its_stages(tmp_path: Path, stopped_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(lively_model(0, "gpt2"), tmp_path / "start", "box", {})  # it drops out
    stages = {"first_stage_steps": 2, "first_stage_modules": ("wte",), "start": tmp_path / "start"}
    through = tiny_config(tmp_path, steps=5, save_every=1, **stages)
    train(through)
    stopped = replace(through, out=tmp_path / "stopped")
    stop_behind(stopped, stopped_at, monkeypatch)
    train(replace(stopped, save_every=5))
    assert same_state(state_of(stopped, 5), state_of(through, 5))
    assert [row["loss"] for row in rows_of(stopped)[1:]] == [row["loss"] for row in rows_of(through)[1:]]


def test_a_finished_run_does_nothing_more_and_another_config_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    facts = train(config)
    content = (config.out / "log.jsonl").read_bytes()
    assert train(replace(config, save_every=7, keep_checkpoints=1, max_minutes=5.0)) == facts
    assert (config.out / "log.jsonl").read_bytes() == content
    with pytest.raises(
        ConfigError, match=r"made with other options: optim.learning_rate: found 0.002 there, 0.1 now; "
    ):
        train(replace(config, seed=1, optim=replace(config.optim, learning_rate=0.1)))
    (config.out / "checkpoints" / "step-00000003" / "state.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"the checksum of state\.pt differs"):
        train(config)


def test_a_time_limit_that_earlier_parts_used_up_is_refused_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path, steps=10**6, save_every=2)
    stop_behind(config, 4, monkeypatch)
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    with pytest.raises(
        ConfigError, match=r"option max_minutes: found 0\.001, expected more than the .* step 4 of 1000000"
    ):
        train(replace(config, max_minutes=0.001))
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before


# several processes


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    one = tiny_config(tmp_path, tokens_per_pass=128, steps=6, start=tiny_grid_model(tmp_path))
    two = replace(one, out=tmp_path / "two")
    train(one)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    team = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    team |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    finish(*(start(two, RANK=str(rank), LOCAL_RANK=str(rank), **team) for rank in range(2)))
    for row, other in zip(rows_of(one)[1:], rows_of(two)[1:], strict=True):
        assert (row["tokens"], row["loss"]) == (other["tokens"], pytest.approx(other["loss"], rel=1e-6))
    ours, theirs = state_of(one, 6)["weights"], state_of(two, 6)["weights"]
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-5, atol=1e-6)
    assert json.loads((two.out / "arc_kaggle.json").read_text())["facts"]["tokens"] == rows_of(one)[-1]["tokens"]
