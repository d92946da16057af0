"""Chaos, short: half of the pairs of a fault and a stage, once, with every fault and every stage among them.

All of them, often, are in benchmarks/chaos.py.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from chaos import FAULTS, STAGES, reference, strike, summary

OPTIONS = ("--engine", "fake", "--recipe", "lora", "--rescore.n-views", "2", "--first-views", "4")


def test_whatever_happens_nothing_finished_is_lost(tmp_path: Path) -> None:
    wanted, plan = reference(tmp_path / "reference", OPTIONS)
    options = (*OPTIONS, "--plan", str(plan))
    with ThreadPoolExecutor(2) as pool:
        blows = [
            pool.submit(strike, tmp_path / f"{i}", stage, fault, "fake", options, wanted, random.Random(i), 1.5)
            for i, (stage, fault) in enumerate(product(STAGES, FAULTS))
            if (STAGES.index(stage) + i) % 2
        ]
        found = summary([blow.result() for blow in blows])
    bad = ("finished_stages_lost", "finished_stages_redone", "invalid_submissions", "different_submissions")
    assert {name: found[name] for name in (*bad, "over_by_more_than_5_s", "not_through")} == dict.fromkeys(
        (*bad, "over_by_more_than_5_s", "not_through"), 0
    )
    assert found["missed"] == 0 and found["runs"] == 12
