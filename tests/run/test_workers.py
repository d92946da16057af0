"""Many workers: each with its share of the machine, and the same submission whatever their number and order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import solve_here, undisturbed
from processes import (
    DONE,
    fake_config,
    read_report,
    running,
    tiny_model,
    until_ready,
    wait_until,
    write_site,
    write_tasks,
)
from scripted import ScriptedWorker

from arc_kaggle.config.answer import RescoreConfig
from arc_kaggle.config.model import SMALL_BYTES
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.run import supervisor as dispatch
from arc_kaggle.run.launch import start
from arc_kaggle.run.planning.jobs import Job
from arc_kaggle.run.solve import solve
from arc_kaggle.run.worker import adapter_store as adapters_module
from arc_kaggle.run.worker.adapter_store import Adapters
from arc_kaggle.system.hardware import held_bytes, memory_ceiling, visible_gpus
from arc_kaggle.system.processes import worker_environment
from arc_kaggle.system.threads import SPIN_COUNT, WAITS

GIB = 2**30

# A share of the machine -----------------------------------------------------------------------------------------------


def test_every_worker_has_its_gpu_its_cores_and_its_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    found = [worker_environment(number, 4, ("2", "GPU-b"), tmp_path) for number in range(4)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["2", "GPU-b", "2", "GPU-b"]
    assert [each["OMP_NUM_THREADS"] for each in found] == ["1"] * 4
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "VLLM_CACHE_ROOT"):
        assert len({each[name] for each in found}) == 4
    pairs = [worker_environment(number, 3, tuple("56789"), tmp_path, n_each=2) for number in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in pairs] == ["5,6", "7,8", "5,6"]
    assert worker_environment(0, 2, (), tmp_path)["OMP_NUM_THREADS"] == "3"
    assert not {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"} & worker_environment(0, 1, (), tmp_path).keys()


def test_every_worker_is_told_how_its_threads_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in WAITS:
        monkeypatch.delenv(name, raising=False)
    for n_workers in (1, 2):
        assert worker_environment(0, n_workers, (), tmp_path)["GOMP_SPINCOUNT"] == SPIN_COUNT


@pytest.mark.parametrize(
    ("device", "named", "found"),
    [
        ("auto", "0,3", ("0", "3")),
        ("cuda", "GPU-a", ("GPU-a",)),
        ("auto", "", ()),
        ("auto", "-1", ()),
        ("cpu", "0,1", ()),
        ("cuda:1", "0,1", ()),
    ],
)
def test_the_gpus_that_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, device: str, named: str, found: tuple[str, ...], tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(device) == found
    config = SolveConfig(str(write_tasks(tmp_path, 1)), tmp_path / "out", device=device, recipe="none", engine="fake")
    assert start.count_workers(config) == (len(found) or 1)
    assert start.count_workers(replace(config, workers=3)) == 3


def test_without_a_gpu_a_small_model_gets_a_worker_for_each_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    config = SolveConfig(str(write_tasks(tmp_path, 1)), tmp_path / "out", memory_gb=99)
    assert start.count_workers(config) == 3
    for one in ({"engine": "fake"}, {"device": "cuda:1"}, {"memory_gb": 0.5}):
        assert start.count_workers(replace(config, **one)) == 1, one
    assert start.count_workers(replace(config, memory_gb=2.5)) == 2
    large = tmp_path / "large"
    large.mkdir()
    with (large / "model.safetensors").open("wb") as file:
        file.truncate(SMALL_BYTES + 1)
    assert start.count_workers(replace(config, model=large)) == 1


def write_system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   20971520 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 20),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": f"{4 * GIB}\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 20),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": f"{8 * GIB}\n",
                "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/of/the/host\n", "sys/fs/cgroup/memory.max": f"{3 * GIB}\n"}, 3),
        (
            {
                "proc/self/cgroup": "9:cpu:/x\n4:memory:/docker/1\n0::/\n",
                "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{5 * GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            5,
        ),
    ],
)
def test_the_ceiling_is_what_the_machine_or_its_container_grants(
    tmp_path: Path, files: dict[str, str], gib: int
) -> None:
    assert memory_ceiling(write_system(tmp_path, files)) == pytest.approx(0.9 * gib * GIB)


def test_where_the_system_says_nothing_there_is_no_ceiling(tmp_path: Path) -> None:
    assert memory_ceiling(tmp_path) == float("inf")


def test_memory_of_a_process_is_that_of_its_children_too() -> None:
    """100 MiB in the process, and 200 in one that it starts."""
    take = "import sys, time; kept = b'x' * ({} * 2**20); print(1, flush=True); time.sleep(99)"
    parent = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {take.format(200)!r}]); {take.format(100)}"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() and process.stdout.readline()
        assert 300 * 2**20 < held_bytes(process.pid) < 400 * 2**20
    finally:
        os.killpg(process.pid, 9)
        process.communicate()
    assert held_bytes(process.pid) == 0


# Adapters in scratch --------------------------------------------------------------------------------------------------


class FileTuner:
    """Saves as many bytes as it is told."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes, self.loaded = n_bytes, b""

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_bytes(folder.name.encode() * (self.n_bytes // len(folder.name)))

    def load(self, folder: Path) -> None:
        if not folder.exists():
            raise ModelError("nothing there")
        self.loaded = (folder / "weights").read_bytes()


def test_adapters_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    kept, tuner = Adapters(tmp_path, 350), FileTuner(100)
    for number, task_id in enumerate(["a", "b", "c"]):
        assert kept.save(task_id, tuner) == ""  # type: ignore[arg-type]
        os.utime(tmp_path / task_id, (number, number))
    assert kept.load("a", tuner) and tuner.loaded == b"a" * 100  # type: ignore[arg-type]
    assert kept.save("d", tuner) == ""  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]
    assert not kept.load("b", tuner)  # type: ignore[arg-type]
    kept.drop("a")
    assert not (tmp_path / "a").exists()


def test_what_finds_no_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Adapters(tmp_path / "s", 50).save("a", FileTuner(100))  # type: ignore[arg-type]
    assert said.startswith("the adapter was not kept: it has 100 bytes, expected 50 or fewer; raise --scratch-gb")
    monkeypatch.setattr(adapters_module, "FREE_BYTES", 2**60)
    said = Adapters(tmp_path / "s", 500).save("a", FileTuner(100))  # type: ignore[arg-type]
    assert "bytes are free, it wants 100 and" in said and not (tmp_path / "s").exists()


# The same submission --------------------------------------------------------------------------------------------------


class Interleaved:
    """A plan that does every stage of every task, the tasks in an order that it is told."""

    def __init__(self, task_ids: list[str], order: Iterator[int]) -> None:
        self.order = order
        self.left = {task_id: deque(self._jobs(task_id)) for task_id in task_ids}

    def _jobs(self, task_id: str) -> list[Job]:
        stages = [("quick", (0, 2)), ("tune", (0, 0)), ("answer", (0, 3)), ("answer", (3, 4)), ("score", (0, 4))]
        return [Job(task_id, stage, 0, views, 60.0, 1.0) for stage, views in stages]  # type: ignore[arg-type]

    def next_job(self, worker: int) -> Job | None:
        open_ids = [task_id for task_id, jobs in self.left.items() if jobs]
        return self.left[open_ids[next(self.order) % len(open_ids)]].popleft() if open_ids else None

    def recall(self, record: Any) -> None: ...

    def done(self, *_: Any) -> None: ...

    def probed(self, ktoken_seconds: float) -> None: ...

    def give_back(self, worker: int, job: Job) -> None:
        self.left[job.task_id].appendleft(job)

    def lost(self, worker: int, job: Job, *_: Any) -> None:
        self.left[job.task_id].appendleft(job)


@settings(max_examples=8)
@given(order=st.lists(st.integers(0, 3), min_size=20), lost=st.lists(st.booleans(), max_size=12))
def test_any_order_of_finished_and_lost_stages_gives_the_same_submission(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], lost: list[bool]
) -> None:
    def submission(order: list[int], lost: list[bool]) -> bytes:
        folder = tmp_path_factory.mktemp("run")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ScriptedWorker, "failures", chain(lost, repeat(False)))
            plan = Interleaved(["t00", "t01", "t02", "t03"], chain(order, repeat(0)))
            patched.setattr(dispatch, "make_plan", lambda *_: plan)
            config = fake_config(folder, 4, recipe="lora", **SCORED)
            solve_here(config, start=ScriptedWorker)
        return (config.out / "submission.json").read_bytes()

    assert submission(order, lost) == submission([], [])


SCORED = {"rescore": RescoreConfig(n_views=2), "select_by": "poe"}


def test_one_two_and_four_workers_give_the_same_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the plan that one of them made. The one with four loses a worker on its way."""
    first = fake_config(tmp_path / "1", 12)
    solve(first)
    wanted, plan = (first.out / "submission.json").read_bytes(), first.out / "plan.json"
    second = fake_config(tmp_path / "2", 12, workers=2, plan=plan)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(write_site(tmp_path / "site", until_ready(second.out, 2))))
        solve(second)
    assert (second.out / "submission.json").read_bytes() == wanted
    assert {stage["worker"] for row in read_report(second.out)["reports"] for stage in row["stages"]} == {0, 1}
    options = ("--engine", "fake", "--recipe", "none", "--workers", "4", "--plan", str(plan))
    with running(tmp_path / "4", *options, n_tasks=12, spoil="time.sleep(0.02)") as run:
        child = run.child()
        wait_until(lambda: read(run.out / "stages.jsonl").count(b"\n") > 6)
        os.kill(child, 9)
        assert run.wait() == 0, run.output
    assert (run.out / "submission.json").read_bytes() == wanted
    events = [json.loads(line) for line in (run.out / "events.jsonl").read_text().splitlines()]
    told = [event["event"] for event in events if event["event"] in ("start", "ready", "worker_lost")]
    assert told.count("worker_lost") == 1
    assert ("start", "start") not in pairwise(told)  # one after another


def test_a_plan_that_cannot_be_read_or_is_of_other_tasks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"option plan: .*expected the plan\.json that an earlier run wrote"):
        solve(fake_config(tmp_path, 2, plan=path))
    other = fake_config(tmp_path / "other", 4)
    solve_here(other)
    with pytest.raises(ConfigError, match="found task t02, which is not in --tasks"):
        solve(fake_config(tmp_path / "few", 2, plan=other.out / "plan.json"))


def test_the_real_model_gives_the_same_submission_resumed_and_with_two_workers(tmp_path: Path) -> None:
    """Tuned, answered in two goes and scored, in fp32. The resumed run was killed behind a fine-tuning."""
    options = (*tiny_model(tmp_path / "model"), "--first-views", "2", "--rescore.n-views", "2", "--select-by", "poe")
    wanted, plan = undisturbed(tmp_path / "one", *options, n_tasks=3)
    planned = (*options, "--plan", str(plan))
    with running(tmp_path / "killed", *planned, n_tasks=3) as killed:
        wait_until(lambda: b'"tuned": true' in read(killed.out / "stages.jsonl"), 120)
        killed.process.kill()
    assert list((tmp_path / "killed" / "scratch").glob("*/adapters/*/tuned.json"))
    with running(tmp_path / "killed", *planned, n_tasks=3) as resumed:
        assert resumed.wait(120) in DONE, resumed.output
    assert read(resumed.out / "submission.json") == wanted
    assert not list((tmp_path / "killed" / "scratch").glob("*/adapters/*"))
    with running(tmp_path / "two", *planned, "--workers", "2", n_tasks=3) as two:
        assert two.wait(120) in DONE, two.output
    assert read(two.out / "submission.json") == wanted


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
