"""Ray: the same run on the nodes of a cluster; a node that dies takes no more with it than the stage it was at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from in_process import solve_here
from processes import Run, fake_config, read_report, running, until_ready, wait_until

from arc_kaggle.errors import ConfigError
from arc_kaggle.run.solve import solve

pytest.importorskip("ray", reason="no Ray: pip install 'arc_kaggle[ray]'")

OPTIONS = ("--engine", "fake", "--recipe", "none", "--workers", "2")

TWO_NODES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
"""


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A cluster on this machine: its address, and a process that kills a node for every line that it is sent."""
    path = os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.communicate(timeout=60)


def wanted(folder: Path, n_tasks: int) -> tuple[bytes, Path]:
    """The submission of a run without Ray, and its plan."""
    config = fake_config(folder, n_tasks)
    solve_here(config)
    return (config.out / "submission.json").read_bytes(), config.out / "plan.json"


def workers_of(run: Run) -> set[int]:
    return {stage["worker"] for row in read_report(run.out)["reports"] for stage in row["stages"]}


def events(run: Run) -> list[dict[str, Any]]:
    path = run.out / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_two_workers_on_one_machine(tmp_path: Path) -> None:
    submission, plan = wanted(tmp_path / "alone", 6)
    options = (*OPTIONS, "--ray-address", "local", "--plan", str(plan))
    with running(tmp_path / "ray", *options, n_tasks=6, spoil=until_ready(tmp_path / "ray" / "out", 2)) as run:
        assert run.wait(120) == 0, run.output
    assert (run.out / "submission.json").read_bytes() == submission
    assert workers_of(run) == {0, 1}


def test_a_node_that_dies_in_the_middle(tmp_path: Path) -> None:
    submission, plan = wanted(tmp_path / "alone", 8)
    with two_nodes(tmp_path / "ray") as (address, cluster):
        options = (*OPTIONS, "--ray-address", address, "--plan", str(plan))
        with running(tmp_path / "ray", *options, n_tasks=8, spoil="time.sleep(0.2)") as run:
            wait_until(lambda: sum(event["event"] == "ready" for event in events(run)) == 2, 120)
            assert cluster.stdin is not None
            print("kill", file=cluster.stdin, flush=True)
            assert run.wait(180) == 0, run.output
    assert (run.out / "submission.json").read_bytes() == submission
    lost = [event for event in events(run) if event["event"] == "worker_lost"]
    assert lost and "its actor or its node is gone" in lost[0]["reason"]
    assert all(row["run"] is not None for row in read_report(run.out)["reports"])


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with running(tmp_path, *OPTIONS, "--ray-address", "127.0.0.1:1") as run:
        assert run.wait(120) == 2
    assert "option ray_address: found '127.0.0.1:1', where no cluster answers" in run.output


def test_without_ray_its_option_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"ray is not installed; pip install 'arc_kaggle\[ray\]'"):
        solve(fake_config(tmp_path, ray_address="local"))
