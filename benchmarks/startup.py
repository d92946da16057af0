"""Seconds from the command to the first valid submission, and to the first answer of the model.

    git worktree add ../earlier 305f291
    python benchmarks/startup.py [--peer ../earlier] [--select shortest:20] [--repeats 5] [--model FOLDER]

Every start is a new process with warm files and compiled bytecode (one start before them does not count), whatever the
environment says of bytecode; with a peer both take turns. Without --model each takes the one in its own box. A
submission is there when submission.json holds every task; an answer when the first line lies in predictions/. Then the
run is ended. `import` is `import arc_kaggle` alone, beside what numpy takes of it. Prints a JSON object last.

Aims on two idle cores with the model in the box: 0.5 s and 3 s. Expected, written down before the first run, with
edition 2: the peer 1.1 s and 5 s, for it imports every module and reads both sets of tasks, of which it takes one; ours
0.5 s and 3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from airv import commit

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.002
MOST_SECONDS = 120.0


def environment_of(root: Path) -> dict[str, str]:
    """Of a process that runs a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def start(root: Path, select: str, model: Path | None) -> dict[str, float]:
    """Seconds to the first submission and to the first answer of a run of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = ["solve", "--tasks", "arc1:evaluation", "--select", select, "--out", str(out), "--scratch", folder]
        words += ["--model", str(model.resolve())] if model else []
        command = [sys.executable, "-m", "arc_kaggle.cli", *words]
        options = {"cwd": root, "env": environment_of(root), "start_new_session": True}
        began = time.perf_counter()
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        found: dict[str, float] = {}
        try:
            while len(found) < 2:
                seconds = time.perf_counter() - began
                assert run.poll() is None and seconds < MOST_SECONDS, f"{root}: no answer, exit code {run.poll()}"
                if "submission" not in found and is_whole(out / "submission.json"):
                    found["submission"] = seconds
                if any(path.stat().st_size for path in out.glob("predictions/*")):
                    found["answer"] = seconds
                time.sleep(POLL_SECONDS)
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait()
        return found


def is_whole(path: Path) -> bool:
    """Whether a submission is there."""
    return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8")))


def import_seconds(root: Path, what: str) -> float:
    """Seconds of a process that imports a package and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {what}"], check=True, cwd=root, env=environment_of(root))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a checkout of an earlier state")
    parser.add_argument("--select", default="shortest:20")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    roots = {"ours": ROOT} | ({"peer": options.peer.resolve()} if options.peer else {})
    seconds: dict[str, list[float]] = defaultdict(list)
    for repeat in range(-1, options.repeats):
        for name, root in roots.items():
            found = {**start(root, options.select, options.model), "import": import_seconds(root, "arc_kaggle")}
            for what, taken in found.items() if repeat >= 0 else ():
                seconds[f"{name}, {what}"].append(taken)
        if repeat >= 0:
            seconds["numpy, import"].append(import_seconds(ROOT, "numpy"))
    facts = {
        "benchmark": "startup",
        "commit": commit(),
        "cores": os.cpu_count(),
        "arguments": sys.argv[1:],
        "seconds": {name: [round(each, 3) for each in row] for name, row in seconds.items()},
        "medians": {name: round(median(row), 3) for name, row in seconds.items()},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
