"""Chaos, long: runs of `solve` with a fault at a random moment, until their work is done all the same.

    python benchmarks/chaos.py [--fake 150] [--real 54] [--seed 0] [--out benchmarks/results/chaos.json]

Every stage (quick, tune, answer, score) meets every fault (kill -9 of the child, of the supervisor, a hang, lack of
memory, a full disk, a damaged file) in turn, on small tasks, with the fake engine and with the model in the box. One
first run in four is cut off by its deadline as well. Expected: no finished stage lost or redone, no invalid
submission, none that differs from that of a run without a fault, no process over its deadline by more than 5 s. Prints
the matrix of what was hit and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, product
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chaos import FAULTS, STAGES, Blow, reference, strike, summary  # noqa: E402

COMMON = ("--rescore.n-views", "2", "--first-views", "4")
FAKE = (*COMMON, "--engine", "fake", "--recipe", "lora")
REAL = (*COMMON, "--tune.steps", "3", "--precision", "fp32")
HANG_SECONDS = {"fake": 1.5, "real": 20.0}
"""After which a worker counts as hung."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fake", type=int, default=150, help="runs with the fake engine")
    parser.add_argument("--real", type=int, default=54, help="runs with the model in the box")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the JSON object, too")
    options = parser.parse_args()
    started, blows = time.monotonic(), []
    with ThreadPoolExecutor(2) as pool:
        soaks = (("fake", FAKE, options.fake), ("real", REAL, options.real))
        for found in pool.map(lambda each: soak(*each, options.seed), soaks):
            blows += found
    print_matrix(blows)
    result = {
        "benchmark": "chaos",
        **summary(blows),
        "seed": options.seed,
        "seconds": round(time.monotonic() - started),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def soak(engine: str, words: tuple[str, ...], n: int, seed: int) -> list[Blow]:
    """So many runs; a line for each that did not go as expected."""
    blows: list[Blow] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted, plan = reference(folder / "reference", words) if n else (b"", folder)
        planned = (*words, "--plan", str(plan))
        for i, (stage, fault) in enumerate(islice(cycle(product(STAGES, FAULTS)), n)):
            rng = random.Random(f"{seed} {engine} {i}")
            blow = strike(folder / f"{i}", stage, fault, engine, planned, wanted, rng, HANG_SECONDS[engine])
            bad = blow.lost or blow.redone or blow.invalid or blow.different or blow.late_seconds > 5
            if bad or blow.stage != stage:
                print(f"{i}: {stage}, {fault}: {blow}", flush=True)
            elif i % 10 == 9:
                print(f"{i + 1} of {n} with the {engine} engine", flush=True)
            shutil.rmtree(folder / f"{i}") if not bad else shutil.copytree(folder / f"{i}", f"{name}-bad-{i}")
            blows.append(blow)
    return blows


def print_matrix(blows: list[Blow]) -> None:
    hits = summary(blows)["hits"]
    print(f"\n{'hits':<24}" + "".join(f"{stage:>8}" for stage in STAGES))
    for fault in FAULTS:
        print(f"{fault:<24}" + "".join(f"{hits[stage][fault]:>8}" for stage in STAGES))


def commit() -> str:
    """The commit, with a plus where files differ from it."""
    words = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=7")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
