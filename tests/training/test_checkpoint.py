"""Checkpoints: written as a whole or not at all, checked when read, and only for a run with the same options."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.training.checkpoint import (
    ABOUT_FILE,
    STATE_FILE,
    Checkpoint,
    Progress,
    checkpoint_folders,
    load_checkpoint,
    save_checkpoint,
)

SETTINGS = {"steps": 8, "data": ["a", "b=2"], "optim": {"learning_rate": 0.1, "schedule": "cosine"}, "start": None}


def checkpoint_at(step: int, settings: Mapping[str, Any] = SETTINGS) -> Checkpoint:
    state = {"weights": {"a": torch.full((3,), step / 3)}, "optimizer": {"n_updates": step}, "average": None}
    return Checkpoint(Progress(step, 10 * step, 0.5, 0.25), settings, state)


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, checkpoint_at(step), keep, write_model)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, 7)
    found = load_checkpoint(tmp_path, SETTINGS)
    assert found is not None
    assert found.progress == Progress(7, 70, 0.5, 0.25)
    assert torch.equal(found.state["weights"]["a"], torch.full((3,), 7 / 3))
    assert found.state["optimizer"] == {"n_updates": 7}
    assert (tmp_path / "step-00000007" / "config.json").exists()


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nowhere", SETTINGS) is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_stay(tmp_path: Path, keep: int) -> None:
    save(tmp_path, 90, 100, 1000, 20000, keep=keep)
    assert names(tmp_path) == ["step-00000090", "step-00000100", "step-00001000", "step-00020000"][-keep:]
    found = load_checkpoint(tmp_path, SETTINGS)
    assert found is not None and found.progress.step == 20000


def test_what_was_half_written_is_passed_over_and_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr(torch, "save", full)
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002.partial"]
    found = load_checkpoint(tmp_path, SETTINGS)
    assert found is not None and found.progress.step == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    path = checkpoint_folders(tmp_path)[-1] / STATE_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"step-00000002: the checksum of state.pt differs, .*delete this folder"):
        load_checkpoint(tmp_path, SETTINGS)


@pytest.mark.parametrize("about", ["", "{", "[]", "{}", '{"progress": {"stp": 1}, "settings": {}, "sha256": ""}'])
def test_a_broken_description_is_a_clear_error(tmp_path: Path, about: str) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000001" / ABOUT_FILE).write_text(about)
    with pytest.raises(ModelError, match=r"^checkpoint .*step-00000001: "):
        load_checkpoint(tmp_path, SETTINGS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps": 9}, "steps: found 8 there, 9 now"),
        ({"optim": {"learning_rate": 0.2, "schedule": "cosine"}}, "optim.learning_rate: found 0.1 there, 0.2 now"),
        ({"data": ["a"], "start": "x"}, "data: found ['a', 'b=2'] there, ['a'] now; start: found None there, 'x' now"),
        ({"new": 1}, "new: found None there, 1 now"),
    ],
)
def test_other_options_are_refused_by_name(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(tmp_path, json.loads(json.dumps(SETTINGS | changed)))
    assert f"made with other options: {said}. Give the same to go on" in str(caught.value)
