"""The joint stage: trained on what tasks show alone, through kills to the same weights, and what workers start from."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from models import lively_model, weights_of
from processes import write_tasks

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import OptimConfig, TuneConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.run import joint
from arc_kaggle.run.joint import JointStage
from arc_kaggle.run.solve import solve
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks

N_TASKS = 3


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few small steps in one process, each with a checkpoint."""
    for name, value in {"STEPS": 4, "SAVE_EVERY": 1, "TOKENS_PER_STEP": 256}.items():
        monkeypatch.setattr(joint, name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def trainers() -> list[int]:
    """Processes of this one that train."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, stat = (folder / "cmdline").read_bytes(), (folder / "stat").read_text()
            if b"\0train\0" in words and int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


def config_of(folder: Path, **options: Any) -> SolveConfig:
    save_model(lively_model(0, "grid"), folder / "base", "box", {})
    tune = TuneConfig(weights="all", steps=1, max_tokens=256, optim=OptimConfig(learning_rate=0.01))
    tasks = str(write_tasks(folder, N_TASKS))
    chosen = {"joint_minutes": 20.0, "tune": tune, "generate": GenerateConfig(n_views=1), "workers": 1, **options}
    return SolveConfig(tasks, folder / "out", model=folder / "base", scratch=folder / "scratch", **chosen)


def stage_of(folder: Path, name: str = "joint") -> JointStage:
    return JointStage(config_of(folder), folder / name, Deadline.never())


def run(stage: JointStage, wait: Callable[[float], None] = time.sleep) -> Path | None:
    return stage.run(load_tasks(stage.config.tasks), wait)


def test_it_trains_all_weights_on_train_pairs_alone(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    found = run(stage)
    assert found is not None
    before, after = (weights_of(load_model(folder).network) for folder in (stage.config.model, found))
    assert before.keys() == after.keys()
    assert sum(before[name] != after[name] for name in before) > len(before) / 2
    shown = json.loads((stage.folder / "tasks.json").read_text())
    assert len(shown) == N_TASKS
    assert all("output" not in pair for task in shown.values() for pair in task["test"])


def test_killed_processes_go_on_to_the_same_weights(tmp_path: Path) -> None:
    struck = []

    def strike(seconds: float) -> None:
        if not struck and [*(tmp_path / "killed" / "model" / "checkpoints").glob("step-0000000[12]")]:
            struck.extend(trainers())
            for pid in struck:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)

    through, killed = run(stage_of(tmp_path)), run(stage_of(tmp_path, "killed"), strike)
    assert struck and through and killed
    assert weights_of(load_model(through).network) == weights_of(load_model(killed).network)


def test_what_is_finished_is_taken_again_unless_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(tmp_path)
    found = run(stage)
    assert found and stage.finished() == found
    with monkeypatch.context() as patched:
        patched.setattr(JointStage, "_try", None)
        assert run(stage) == found
    weights = next(found.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert stage.finished() is None


def test_at_the_deadline_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    passed = []

    def wait(seconds: float) -> None:
        if [*(tmp_path / "joint" / "model" / "checkpoints").glob("step-00000001")]:
            passed.append(True)
        time.sleep(0.01)

    stage = JointStage(config_of(tmp_path), tmp_path / "joint", Deadline(0.5, lambda: float(bool(passed))))
    joint.STEPS = 1000
    found = run(stage, wait)
    assert found and found.parent.name == "checkpoints"
    load_model(found)
    assert stage.finished() == found
    assert not trainers()


def test_without_time_the_base_answers(tmp_path: Path) -> None:
    stage = JointStage(config_of(tmp_path), tmp_path / "joint", Deadline(0, lambda: 1))
    assert run(stage) is None


def test_workers_start_from_it_and_a_run_that_is_through_trains_no_more(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    result = solve(config)
    events = [json.loads(line) for line in (config.out / "events.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names.index("joint") < names.index("joint_done") < names.index("start")
    (done,) = (event for event in events if event["event"] == "joint_done")
    assert done["trained"] and done["model"].startswith(str(tmp_path / "scratch"))
    assert [report.run and report.run.tune.text for report in result.reports] == ["tuned"] * N_TASKS
    solve(config)
    assert (config.out / "events.jsonl").read_text().count('"joint"') == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tune": TuneConfig()}, "found 20 with tune.weights 'lora', expected all weights on one machine"),
        ({"ray_address": "local"}, "found 20 with tune.weights 'all' on a cluster, expected all weights"),
        ({"time_limit_minutes": 20.0}, "found 20 of 20 minutes in all, expected less"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"option joint_minutes: {said}"):
        config_of(tmp_path, **options)
