"""Trains edition 3 of the model in the box on a GPU, in one call of nine minutes: `benchmarks/gpu.sh train` calls this.

    benchmarks/gpu.sh train OUT REARC [--minutes 9] [--tokens 65536] [OPTION ...]

The recipe is that of `edition3.sh`, in one process and in bf16, with larger steps of packed rows; further options go to
`arc-kaggle train`. A first training of a minute, whose weights are thrown away, tells how many steps fit the time: the
length of examples grows with the steps, so that their number must be known before. The learning rate falls in time by
`--max-minutes`, and whatever is still running shortly before the end is killed; the model is then that of the last
saving.

Checkpoints lie in a folder of their own that is thrown away. OUT gets model.tar (the model folder), ema.tar (that of
the moving average, which is the edition where its validation is better), log.jsonl and train.json (rate, steps, sizes);
none is larger than 16 MiB, or train.json says so. Prints the object of train.json last.

Expected, reckoned before anything was run on a GPU: 2.7M weights take 16 MFLOP a token and attention over rows of up to
2,048 as much again, so a step of 65,536 tokens is 3 TFLOP, 4 ms at the full rate, 15 ms at what such small matrices
reach; launches of 6 layers forward and backward, Muon and AdamW take 40 ms. So 1.2 million tokens a second, if 14
processes make 150,000 a second each (157,000 were measured on one core), and in the 6.5 minutes that are left some 450
million tokens in 7,000 steps: twice the plan of the long training on two cores. About 7 GiB of the GPU's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOKENS = 65536
"""Of a step, and of a forward pass."""
MIDDLE_LENGTH = 1184
"""Tokens of the longest example half-way, at which the rate is measured."""
PROBE_SHARE = 0.12
"""Share of the time for measuring the rate."""
AT_THE_END = 20.0
"""Seconds that are kept for writing the results."""
TO_BEGIN_AND_END = 12.0
"""Seconds of a training that its own clock does not see: imports, and the end of its processes."""
SLACK = 0.95
"""Share of the steps that would fit: a run that is through early loses less than one whose lengths did not grow."""
LARGEST = 16 * 2**20
"""Bytes of a file that comes back."""
ON_A_GPU = ("--precision", "bf16", "--batching", "packed")
AS_A_TOY = ("--hidden-size", "32", "--n-layers", "1", "--precision", "fp32", "--max-tokens", "512")


def steps_that_fit(seconds: float, rate: float, tokens: int) -> int:
    """Steps of so many tokens at a rate of tokens a second."""
    return max(10, int(SLACK * seconds * rate / tokens))


def rate_of(log: Path) -> tuple[float, float]:
    """(tokens a second, seconds until the first step was done) by the log of a training."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line.get("tokens")]
    if len(steps) < 2:
        raise SystemExit(f"{log}: found {len(steps)} steps, expected two or more; give it more minutes")
    first, last = steps[0], steps[-1]
    return (last["tokens"] - first["tokens"]) / max(1e-9, last["seconds"] - first["seconds"]), first["seconds"]


def train(out: Path, rearc: str, seconds: float, options: Sequence[str]) -> str:
    """Run edition3.sh, which ends by itself in time; kill it if it does not. Returns what went wrong."""
    environment = {**os.environ, "PROCESSES": "1", "PRIORITY": "", "PYTHON": sys.executable}
    minutes = "--max-minutes", f"{(seconds - TO_BEGIN_AND_END) / 60:.3f}"
    command = ["sh", str(HERE / "edition3.sh"), str(out), rearc, *minutes, *options]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    wrong = ""
    try:
        if code := process.wait(seconds):
            wrong = f"exit code {code}"
    except subprocess.TimeoutExpired:
        wrong = f"stopped after {seconds:.0f} s; the model is that of the last saving"
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return wrong


def bring_back(trained: Path, out: Path) -> dict[str, int]:
    """Write what a training left into few files; returns their sizes in bytes."""
    packed = {"model.tar": trained, "ema.tar": trained / "ema"}
    for name, folder in packed.items():
        if not (folder / "config.json").is_file():
            continue
        with tarfile.open(out / name, "w") as tar:
            for path in sorted(folder.iterdir()):
                if path.is_file() and path.name != "log.jsonl":
                    tar.add(path, f"{Path(name).stem}/{path.name}")
    if (trained / "log.jsonl").is_file():
        shutil.copy(trained / "log.jsonl", out)
    return {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("rearc", help="file of re-arc pairs")
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole call, from --since on")
    parser.add_argument("--since", type=float, default=time.time(), help="when the call began, in seconds of the epoch")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a step, padding included")
    parser.add_argument("--data-workers", type=int, default=max(0, (os.cpu_count() or 1) - 2))
    parser.add_argument("--toy", action="store_true", help="on a CPU, at toy sizes")
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end = options.since + 60 * options.minutes - AT_THE_END
    tokens = "--tokens-per-batch", str(options.tokens), "--tokens-per-pass", str(options.tokens)
    common = [*tokens, "--data-workers", str(options.data_workers), *(AS_A_TOY if options.toy else ON_A_GPU), *more]
    length = "--max-tokens", str(MIDDLE_LENGTH), "--first-max-tokens", str(MIDDLE_LENGTH)
    probing = *length, "--steps", "1000000", "--save-every", "1000000", "--validation-puzzles", "0"
    facts: dict[str, Any] = {"benchmark": "gpu_train", "toy": options.toy, "tokens_per_step": options.tokens}
    with tempfile.TemporaryDirectory() as scratch:
        probe, trained = Path(scratch) / "probe", Path(scratch) / "trained"
        if wrong := train(probe, options.rearc, PROBE_SHARE * 60 * options.minutes, [*common, *probing]):
            facts["probe_error"] = wrong
        rate, begin = rate_of(probe / "log.jsonl")
        left = end - time.time()
        steps = steps_that_fit(left - begin - TO_BEGIN_AND_END, rate, options.tokens)
        facts |= {"tokens_per_s_of_probe": round(rate), "start_seconds": begin, "steps": steps}
        saving = "--steps", str(steps), "--save-every", str(max(1, steps // 4)), "--validation-puzzles", "16"
        if wrong := train(trained, options.rearc, left, [*common, *saving]):
            facts["error"] = wrong
        sizes = bring_back(trained, options.out)
        facts["tokens_per_s"] = round(rate_of(trained / "log.jsonl")[0])
    facts |= {"bytes": sizes, "too_large": [name for name, size in sizes.items() if size > LARGEST]}
    (options.out / "train.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))
    if "model.tar" not in sizes:
        raise SystemExit("found no model, for nothing was saved in time; give it more minutes")


if __name__ == "__main__":
    main()
