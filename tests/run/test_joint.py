"""The joint stage: trained on what tasks show alone, through kills to the same weights, and what workers start from."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import few_joint_steps, joint_stage_in_process, workers_in_process
from models import lively_model, weights_of
from processes import write_tasks

from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.run import joint
from arc_kaggle.run.joint import JointStage
from arc_kaggle.run.solve import solve
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.threads import SPIN_COUNT, WAITS
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tuning.pretrained import attach
from arc_kaggle.tuning.tunable_weights import LoraAdapter

N_TASKS = 3


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    few_joint_steps(monkeypatch)


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it matters what is trained, and not by which process."""
    workers_in_process(monkeypatch)
    joint_stage_in_process(monkeypatch)


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


def log_probs(out: Path) -> list[float]:
    lines = [line for path in sorted(out.glob("predictions/*")) for line in path.read_text().splitlines()]
    return [json.loads(line)["log_prob"] for line in lines]


def test_every_process_of_it_is_told_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five threads are shared out among four processes, for a step has to be shared evenly."""
    for name in (*WAITS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found = list(JointStage(config_of(tmp_path, device="cpu"), tmp_path / "joint", Deadline.never())._environments())
    assert [each["RANK"] for each in found] == ["0", "1", "2", "3"]
    assert {each["OMP_NUM_THREADS"] for each in found} == {"1"}
    assert {each["GOMP_SPINCOUNT"] for each in found} == {SPIN_COUNT}


@pytest.mark.usefixtures("in_one_process")
def test_it_trains_an_adapter_where_single_tasks_do(tmp_path: Path) -> None:
    """With the rank and the modules of single tasks; the base stays as it is."""
    tune = TuneConfig(steps=1, max_tokens=256, lora=LoraConfig(rank=3, modules=("q_proj", "up_proj"), rslora=False))
    stage = JointStage(config_of(tmp_path, tune=tune), tmp_path / "joint", Deadline.never())
    found = run(stage)
    assert found is not None
    assert stage.in_place_of_base(found) == {"adapter": found}
    assert lora_of(found) == tune.lora
    network: Any = attach(load_model(stage.config.model).network, found, None)
    factors = [weight for name, weight in network.named_parameters() if "lora_B" in name]
    assert factors and all(bool(weight.any()) for weight in factors)


@pytest.mark.parametrize(("bytes_of_small", "weights"), [(2**26, "all"), (10, "lora")])
def test_where_single_tasks_train_nothing_the_size_decides(
    tmp_path: Path, bytes_of_small: int, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arc_kaggle.config.model.SMALL_BYTES", bytes_of_small)
    config = config_of(tmp_path, tune=TuneConfig(weights="none"))
    assert JointStage(config, tmp_path, Deadline.never()).weights == weights


@pytest.mark.usefixtures("in_one_process")
def test_a_pretrained_adapter_is_gone_on_from(tmp_path: Path) -> None:
    """What is trained holds it: a LoRA adapter of its rank, or all weights with it merged."""
    config = config_of(tmp_path)
    adapter = LoraAdapter(load_model(config.model), LoraConfig(rank=5))
    adapter.save(tmp_path / "mine")
    for weights in ("all", "lora"):
        tune = replace(config.tune, weights=weights)
        stage = JointStage(replace(config, adapter=tmp_path / "mine", tune=tune), tmp_path / weights, Deadline.never())
        found = run(stage)
        assert found is not None
        changed = replace(stage.config, **stage.in_place_of_base(found))
        assert (changed.adapter is None) == (weights == "all")
        assert weights == "all" or lora_of(found).rank == 5


@pytest.mark.usefixtures("in_one_process")
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


def test_killed_processes_go_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    struck = []

    def strike(seconds: float) -> None:
        if not struck and [*(tmp_path / "killed" / "model" / "checkpoints").glob("step-0000000[12]")]:
            struck.extend(trainers())
            for pid in struck:
                os.kill(pid, signal.SIGKILL)
            joint_stage_in_process(monkeypatch)  # what goes on has a process of its own in the tests of chaos
        time.sleep(0.01)

    with monkeypatch.context() as patched:
        joint_stage_in_process(patched)
        through = run(stage_of(tmp_path))
    killed = run(stage_of(tmp_path, "killed"), strike)
    assert struck and through and killed
    assert weights_of(load_model(through).network) == weights_of(load_model(killed).network)


@pytest.mark.usefixtures("in_one_process")
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


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("weights", ["all", "lora", "none"])
def test_workers_start_from_it_and_a_run_that_is_through_trains_no_more(tmp_path: Path, weights: Any) -> None:
    tune = TuneConfig(weights=weights, steps=1, max_tokens=256, optim=OptimConfig(learning_rate=0.01))
    config = config_of(tmp_path, tune=tune)
    result = solve(config)
    events = [json.loads(line) for line in (config.out / "events.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names.index("joint") < names.index("joint_done") < names.index("start")
    (done,) = (event for event in events if event["event"] == "joint_done")
    assert done["trained"] and done["model"].startswith(str(tmp_path / "scratch"))
    if weights == "none":
        solve(replace(config, out=tmp_path / "without", joint_minutes=0))
        assert log_probs(config.out) != log_probs(tmp_path / "without")
    else:
        assert [report.run and report.run.tune.text for report in result.reports] == ["tuned"] * N_TASKS
    solve(config)
    assert (config.out / "events.jsonl").read_text().count('"joint"') == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ray_address": "local"}, "found 20 on a cluster, expected one machine"),
        ({"time_limit_minutes": 20.0}, "found 20 of 20 minutes in all, expected less"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"option joint_minutes: {said}"):
        config_of(tmp_path, **options)
