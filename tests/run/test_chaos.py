"""Chaos, short: a third of the pairs of a fault and a stage, once, with every fault and every stage among them.

One, two or three workers, of which the last one is loading. All of them, often, are in benchmarks/chaos.py.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
from chaos import FAULTS, JOINT, N_TASKS, STAGES, reference, strike, summary
from in_process import few_joint_steps, undisturbed
from processes import tiny_model

COMMON = ("--rescore.n-views", "2", "--first-views", "4")
OPTIONS = (*COMMON, "--engine", "fake", "--recipe", "lora")
N_WORKERS = (1, 2, 3, 3, 2)


def test_whatever_happens_nothing_finished_is_lost(tmp_path: Path) -> None:
    wanted, plan = reference(tmp_path / "reference", OPTIONS)
    options = (*OPTIONS, "--plan", str(plan))
    with ThreadPoolExecutor(2) as pool:
        blows = [
            pool.submit(strike, tmp_path / f"{i}", stage, fault, "fake", options, wanted, random.Random(i), 1.5, n)
            for i, ((stage, fault), n) in enumerate(zip(product(STAGES, FAULTS), cycle(N_WORKERS), strict=False))
            if (STAGES.index(stage) + i) % 3 == 0
        ]
        found = summary([blow.result() for blow in blows])
    assert_nothing_is_lost(found, 8)
    assert set(found["runs_by_workers"]) == {1, 2, 3}
    assert found["hits_while_a_worker_was_loading"] == 8 - found["runs_by_workers"][1]


@pytest.mark.torch
def test_a_joint_stage_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_joint_steps(monkeypatch)
    options = (*tiny_model(tmp_path / "model"), *COMMON, "--joint-minutes", "3")
    wanted, plan = undisturbed(tmp_path / "reference", *options, n_tasks=N_TASKS)
    words, fault = (*options, "--plan", str(plan)), "kill -9 of supervisor"
    blow = strike(tmp_path / "killed", JOINT, fault, "real", words, wanted, random.Random(0), 60.0, 2)
    assert_nothing_is_lost(summary([blow]), 1)
    assert blow.n_runs == 2


def assert_nothing_is_lost(found: dict[str, Any], n_runs: int) -> None:
    names = ("finished_stages_lost", "finished_stages_redone", "invalid_submissions", "different_submissions")
    none = (*names, "over_by_more_than_5_s", "not_through", "missed")
    assert {name: found[name] for name in none} == dict.fromkeys(none, 0)
    assert found["runs"] == n_runs
