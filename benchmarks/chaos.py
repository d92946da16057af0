"""Chaos, long: runs of `solve` with a fault at a random moment, until their work is done all the same.

    python benchmarks/chaos.py [--fake 150] [--real 50] [--joint 10] [--seed 0] [--log FILE] [--seconds S] [--out FILE]

Every stage (quick, tune, answer, score) meets every fault (kill -9 of the child, of the supervisor, a hang, lack of
memory, a full disk, a damaged file) in turn, on small tasks, with the fake engine and with the model in the box, by
one, two and three workers in turn, of which the last one loads its model until the fault has hit another. The joint
stage is killed after some step, its trainer or its supervisor. One first run in four is cut off by its deadline as
well. Expected: no finished stage lost or redone, no invalid submission, none that differs from that of a run without a
fault, no process over its deadline by more than 5 s. Prints the matrix of what was hit and, last, one JSON object.

With `--log` every run is kept in a file and not done again; with `--seconds` no more are begun after so many, so that
a soak can be done in pieces by the same command.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chaos import FAULTS, FEW_STEPS, JOINT, JOINT_FAULTS, STAGES, Blow, reference, strike, summary  # noqa: E402

from arc_kaggle.system.files import append_lines, read_lines  # noqa: E402

COMMON = ("--rescore.n-views", "2", "--first-views", "4")
REAL = (*COMMON, "--tune.steps", "3", "--precision", "fp32")
HANG_SECONDS = {"fake": 1.5, "real": 20.0}
"""After which a worker counts as hung."""


@dataclass(frozen=True, slots=True)
class Soak:
    """Runs of one kind, numbered from 0."""

    name: str
    engine: str
    options: tuple[str, ...]
    hits: tuple[tuple[str, str], ...]
    """Stages and faults, in turn."""
    n_runs: int

    def begin(self, folder: Path, seed: int) -> Callable[[int], Blow]:
        """Once a run without a fault is through: what does the run of a number."""
        supervisor = FEW_STEPS if self.name == JOINT else "pass"
        wanted, plan = reference(folder / "reference", self.options, supervisor)
        options = (*self.options, "--plan", str(plan))

        def run(i: int) -> Blow:
            (stage, fault), rng = self.hits[i % len(self.hits)], random.Random(f"{seed} {self.name} {i}")
            n_workers = 1 + (i + i // len(self.hits)) % 3
            patience = HANG_SECONDS[self.engine]
            return strike(folder / f"{i}", stage, fault, self.engine, options, wanted, rng, patience, n_workers)

        return run


ALL_HITS = tuple(product(STAGES, FAULTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fake", type=int, default=150, help="runs with the fake engine")
    parser.add_argument("--real", type=int, default=50, help="runs with the model in the box")
    parser.add_argument("--joint", type=int, default=10, help="runs whose joint stage is hit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="file of the runs that are done, a line each")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no more runs are begun")
    parser.add_argument("--out", type=Path, help="file for the JSON object, too")
    options = parser.parse_args()
    soaks = (
        Soak("fake", "fake", (*COMMON, "--engine", "fake", "--recipe", "lora"), ALL_HITS, options.fake),
        Soak("real", "real", REAL, ALL_HITS, options.real),
        Soak(JOINT, "real", (*REAL, "--joint-minutes", "3"), tuple((JOINT, f) for f in JOINT_FAULTS), options.joint),
    )
    log = options.log or Path(tempfile.mkdtemp()) / "chaos.jsonl"
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: soak(each, options.seed, log, started + options.seconds), soaks))
    done = read_lines(log).values
    blows = [Blow(**each["blow"]) for each in done]
    print_matrix(blows)
    result = {
        "benchmark": "chaos",
        **summary(blows),
        "seed": options.seed,
        "seconds_of_all_runs": round(sum(each["seconds"] for each in done)),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def soak(each: Soak, seed: int, log: Path, until: float) -> None:
    """The runs that are not in the log yet; a line for each that did not go as expected."""
    known = {(value["soak"], value["run"]) for value in read_lines(log).values}
    left = [i for i in range(each.n_runs) if (each.name, i) not in known]
    if not left or time.monotonic() > until:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = each.begin(folder, seed)
        for i in left:
            if time.monotonic() > until:
                return
            started = time.monotonic()
            blow = run(i)
            value = {"soak": each.name, "run": i, "seconds": time.monotonic() - started, "blow": asdict(blow)}
            append_lines(log, [value])
            bad = blow.lost or blow.redone or blow.invalid or blow.different or blow.late_seconds > 5
            if bad or not blow.stage:
                print(f"{each.name} {i}: {blow}", flush=True)
            shutil.rmtree(folder / f"{i}") if not bad else shutil.copytree(folder / f"{i}", f"{name}-bad-{i}")


def print_matrix(blows: list[Blow]) -> None:
    hits = summary(blows)["hits"]
    print(f"\n{'hits':<24}" + "".join(f"{stage:>8}" for stage in hits))
    for fault in FAULTS:
        print(f"{fault:<24}" + "".join(f"{hits[stage][fault]:>8}" for stage in hits))


def commit() -> str:
    """The commit, with a plus where files differ from it."""
    words = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=7")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
