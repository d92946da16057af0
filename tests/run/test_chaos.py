"""Chaos, short: two of three pairs of a fault and a stage, once. All of them, often, are in benchmarks/chaos.py."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from chaos import FAULTS, STAGES, reference, strike, summary

OPTIONS = ("--engine", "fake", "--recipe", "lora", "--rescore.n-views", "2", "--first-views", "4")


def test_whatever_happens_nothing_finished_is_lost(tmp_path: Path) -> None:
    wanted, plan = reference(tmp_path / "reference", OPTIONS)
    options = (*OPTIONS, "--plan", str(plan), "--grace-seconds", "-598.5")  # a cap of 600 s is one of 1.5 s
    with ThreadPoolExecutor(2) as pool:
        blows = [
            pool.submit(strike, tmp_path / f"{i}", stage, fault, "fake", options, wanted, random.Random(i))
            for i, (stage, fault) in enumerate(product(STAGES, FAULTS))
            if i % 6 % 4 != i // 6
        ]
        found = summary([blow.result() for blow in blows])
    bad = ("finished_stages_lost", "finished_stages_redone", "invalid_submissions", "different_submissions")
    assert {name: found[name] for name in (*bad, "over_by_more_than_5_s", "not_through")} == dict.fromkeys(
        (*bad, "over_by_more_than_5_s", "not_through"), 0
    )
    assert found["missed"] == 0 and found["runs"] == 18
