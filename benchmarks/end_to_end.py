"""`solve` from its first second to its last against an earlier state of this repository, with one model and recipe.

    git worktree add ../skeleton 408a152
    python benchmarks/end_to_end.py --peer ../skeleton [--select shortest:8] [--repeats 3]

Both solve the same tasks with the peer's model, its fine-tuning and its number of views, in turns; ours gives every
task its quick answer besides. Prints a JSON object last: seconds of both, their ratio (medians), outputs solved, and
the share of each stage in ours (over 1 in all where workers are side by side). Expected before the first run: 1.5x, for
most of the time is fine-tuning; of a worker a core instead of one worker: 1.8x.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from airv import commit

ROOT = Path(__file__).resolve().parents[1]
PLAINEST = "lora"
"""A recipe with nothing in it that an earlier state did not know: what differs from it is what the peer says."""


def run(root: Path, out: Path, options: list[str]) -> float:
    """Seconds of a run of the command line of a checkout."""
    env = {**os.environ, "PYTHONPATH": str(root)}
    words = [sys.executable, "-m", "arc_kaggle.cli", "solve", "--out", str(out), "--overwrite", *options]
    started = time.perf_counter()
    subprocess.run(words, check=True, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def same_method(config: dict[str, Any], known: dict[str, Any], prefix: str = "") -> list[str]:
    """The peer's options of fine-tuning and inference as words of our command line, as far as both know them."""
    words = []
    for name, value in config.items():
        option = f"{prefix}{name}"
        if isinstance(value, dict):
            words += same_method(value, known.get(name, {}), f"{option}.")
        elif name in known and value != known[name]:
            words += [f"--{option.replace('_', '-')}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return words


def stage_seconds(out: Path) -> Counter[str]:
    seconds: Counter[str] = Counter()
    for report in json.loads((out / "report.json").read_text(encoding="utf-8"))["reports"]:
        for stage in report["stages"]:
            seconds[stage["job"]["stage"]] += stage["outcome"]["seconds"]
    return seconds


def solved(out: Path) -> float:
    return float(json.loads((out / "report.json").read_text(encoding="utf-8"))["scores"]["kaggle"]["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of the earlier state")
    parser.add_argument("--tasks", default="arc1:evaluation")
    parser.add_argument("--select", default="shortest:8")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    peer, tasks = options.peer.resolve(), ["--tasks", options.tasks, "--select", options.select]
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "peer", Path(folder) / "ours"
        for _ in range(options.repeats):
            seconds["peer"].append(run(peer, theirs, tasks))
            method = same_words(theirs)
            words = [*tasks, "--model", str(peer / "arc_kaggle" / "box"), *method]
            seconds["ours"].append(run(ROOT, ours, words))
        shares, total = stage_seconds(ours), seconds["ours"][-1]
        facts = {
            "benchmark": "end_to_end",
            "commit": commit(),
            "cores": os.cpu_count(),
            "select": options.select,
            "seconds": {name: [round(each, 1) for each in row] for name, row in seconds.items()},
            "solved": {"ours": solved(ours), "peer": solved(theirs)},
            "share_of_ours": {name: round(each / total, 3) for name, each in shares.items()},
            "ratios": {"6 end to end": round(median(seconds["peer"]) / median(seconds["ours"]), 2)},
        }
    print(json.dumps(facts))


def same_words(theirs: Path) -> list[str]:
    """Options with which ours does what the peer did."""
    from arc_kaggle import SolveConfig
    from arc_kaggle.config.json import config_to_json

    config = json.loads((theirs / "config.json").read_text(encoding="utf-8"))
    known = config_to_json(SolveConfig(tasks="", out=Path(), recipe=PLAINEST))
    method = {name: config[name] for name in ("generate", "tune")}
    differing = same_method(method, {name: known[name] for name in method})
    return ["--recipe", PLAINEST, *differing, "--first-views", str(config["generate"]["n_views"])]


if __name__ == "__main__":
    main()
