"""All benchmarks of a GPU in one call of nine minutes, without a network: `benchmarks/gpu.sh` calls this.

    benchmarks/gpu.sh pack WHEELS              where there is a network: the few packages that such a machine may lack
    benchmarks/gpu.sh OUT [--minutes 9]        on the machine with the GPU
    benchmarks/gpu.sh OUT --toy                end to end on a CPU, at toy sizes

It needs torch 2.11 or newer, transformers, peft and numpy there, beside what `pack` has fetched (WHEELS in the
environment names the folder; `.wheels` in the repository is found by itself; a wheel of bitsandbytes in it adds the
checks in 4 bits). Models have random weights and are made on the fly.

Parts, each with a slice of the time and a hard stop at its end; what one leaves over the next ones may use:

machine  The rates of a large product and a large copy, by which all other rows say how far they are from the roofline.
checks   Equal outputs before anything is timed: fp32, fp16, bf16, compiled, 4 bits (`gpu_checks.py`), side by side.
0.5B, 4B Answers and scores of the engine beside transformers' best batch (`airv.py`), training steps (`ttft.py`).
box      The recipe of the model in the box, task by task, on the GPU and on its machine's CPU, and a whole run of
         `solve` on the same tasks (`gpu_box.py`).

Every part writes OUT/PART.json anew after each of its rows, OUT/gpu.json holds all of them, OUT/log.txt what was said.
A row that fails, or that is stopped, says so, and the rest goes on. Prints the object of gpu.json last, in one line.

Expected, reckoned for 800 TFLOP/s of bf16 products and 4 TB/s of copies before anything was run on a GPU. 32 prompts
have 820 tokens each in the mean, answers 64, candidates 60; steps train 2 examples of 1,000 tokens, the box 1,024.

| row | least | expected | why |
|---|--:|--:|---|
| 0.5B: prefill | 0.025 s | 0.1 s | the products of 24 narrow layers, at a quarter of the rate |
| 0.5B: a decode step | 0.35 ms | 20 ms | some 500 kernels launched from Python; compiled into graphs 3 ms |
| 0.5B: all prompts against transformers' best batch | | 1.2x | both wait for launches; ours pads less |
| 0.5B: 16 candidates against full forward passes | | 6x | of a ceiling of 8; the head on every token stays |
| 4B: prefill | 0.25 s | 0.4 s | wide products, at 60% of the rate |
| 4B: a decode step | 3.2 ms | 32 ms | 36 layers of launches; compiled into graphs 5 ms |
| 0.5B: a step of LoRA, of all weights | 4, 6 ms | 60, 60 ms | launches, forward and backward |
| 4B: a step of LoRA | 39 ms | 120 ms | launches of adapters beside products at half the rate |
| edition 2 of the box: 100 steps | 1 ms | 1.5 s | launches alone; two cores of a CPU 7 s |
| edition 3: 50 steps | 3 ms | 1 s | launches alone; two cores of a CPU 6 s |
| checks in fp32, fp16 and bf16 | | all equal | compiled ones: if they run at all |
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from roofline import Peaks, answers, least_seconds, scores, training  # noqa: E402

from arc_kaggle.models.memory_formulas import Shape, read_shape  # noqa: E402
from arc_kaggle.system.files import write_json  # noqa: E402

ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
LEAST_SECONDS = 2.0
"""With less than this left of a part, none of its rows is begun."""
LOG_CHARACTERS = 20_000
"""Kept of what one row has said."""

Told = dict[str, Any]
Run = Callable[[Sequence[str], float, Callable[[Told], None]], str]
"""Runs a script of this folder with its arguments for some seconds at most, and hands on each JSON object that it
prints; returns what went wrong, or nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One script with its arguments; `finish` adds to what it tells."""

    name: str
    words: tuple[str, ...]
    seconds: float = float("inf")
    finish: Callable[[Told], Told] = dict


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that share a slice of the time, one after the other, or side by side where none of them is timed."""

    name: str
    seconds: float
    rows: Callable[[], Iterable[Row]]
    together: bool = False


@dataclass
class Results:
    """All rows so far, by part and name, on disk after each change."""

    out: Path
    facts: Told
    parts: dict[str, dict[str, Told]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, part: str, row: str, told: Told) -> None:
        """A later row of a name takes the place of an earlier one."""
        with self.lock:
            self.parts.setdefault(part, {})[row] = told
            write_json(self.out / f"{part}.json", {"part": part, "rows": self.parts[part]})
            write_json(self.out / "gpu.json", self.summary)

    @property
    def summary(self) -> Told:
        rows = {f"{part}: {row}": told for part, rows in self.parts.items() for row, told in rows.items()}
        checks = {name: told for name, told in rows.items() if "equal" in told}
        return {
            **self.facts,
            "checks": {"equal": sum(told["equal"] for told in checks.values()), "of": len(checks)},
            "unequal": [name for name, told in checks.items() if not told["equal"]],
            "failed": {name: told["error"] for name, told in rows.items() if "error" in told},
            "parts": self.parts,
        }


def run_parts(parts: Sequence[Part], results: Results, run: Run, clock: Callable[[], float], begun: float) -> None:
    """Run all rows; part i ends when the slices of parts 0 to i are over, counted from `begun`, whatever happens."""
    end = begun
    for part in parts:
        end += part.seconds
        try:
            rows = list(part.rows())
        except Exception as error:
            results.put(part.name, "rows", {"error": f"{type(error).__name__}: {error}"})
            continue
        with ThreadPoolExecutor(max(1, len(rows)) if part.together else 1) as pool:
            list(pool.map(lambda row, part=part, end=end: run_row(part.name, row, results, run, clock, end), rows))


def run_row(part: str, row: Row, results: Results, run: Run, clock: Callable[[], float], end: float) -> None:
    """Run one row until the end of its part at most, and put what it tells, and what went wrong, into the results."""
    begun = clock()
    left = min(row.seconds, end - begun)
    if left < LEAST_SECONDS:
        results.put(part, row.name, {"error": f"left out: {max(0.0, end - begun):.0f} s were left of this part"})
        return
    last: Told = {}

    def tell(told: Told) -> None:
        nonlocal last
        inner = told.pop("row", None)
        name = row.name if inner is None else f"{row.name}, {inner}"
        try:
            found = row.finish(told)
        except Exception as error:
            found = {**told, "error": f"{type(error).__name__}: {error}"}
        last = found if inner is None else {}
        results.put(part, name, found)

    wrong = run(row.words, left, tell)
    if wrong:
        results.put(part, row.name, {**last, "error": wrong})
    results.put(part, f"{row.name}: seconds", {"seconds": round(clock() - begun, 1)})


def run_script(out: Path) -> Run:
    """Runs scripts in process groups of their own, which are killed when their time is over."""

    def run(words: Sequence[str], seconds: float, tell: Callable[[Told], None]) -> str:
        command = [sys.executable, str(HERE / words[0]), *words[1:]]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, start_new_session=True
            )
            reader = threading.Thread(target=hand_on, args=(process.stdout, tell), daemon=True)
            reader.start()
            wrong = ""
            try:
                if code := process.wait(seconds):
                    wrong = f"exit code {code}"
            except subprocess.TimeoutExpired:
                wrong = f"stopped after {seconds:.0f} s"
            end_group(process)
            reader.join(LEAST_SECONDS)
            assert process.stdout is not None
            process.stdout.close()
            said.seek(0)
            text = said.read()[-LOG_CHARACTERS:]
        with (out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"--- {' '.join(words)}\n{text}\n")
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{wrong}: {lines[-1][:300]}" if wrong.startswith("exit") and lines else wrong

    return run


def end_group(process: subprocess.Popen[str]) -> None:
    """End what a script has started, and the script where it is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def hand_on(lines: Iterable[str], tell: Callable[[Told], None]) -> None:
    """Hand on the lines that are JSON objects."""
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            tell(told)


def with_roofline_of_answers(told: Told, shape: Shape, peaks: dict[str, float]) -> Told:
    """Rows of `airv.py`: for every way the least seconds, and how many times that it took."""
    if not peaks:
        return {**told, "roofline": None}
    itemsize, best = ITEM_SIZES[told["precision"]], Peaks(peaks[PRECISIONS[told["precision"]]], peaks["bytes"])
    lengths = told.pop("lengths")
    prompts, answered = lengths["prompts"], lengths["answers"]
    least = {
        "1 ": least_seconds(answers(shape, prompts, answered, itemsize), best),
        "1 ceiling": least_seconds(scores(shape, prompts, answered, itemsize), best),
    }
    for name in [name for name in lengths if name.startswith("trees of ")]:
        n = name.removeprefix("trees of ")
        least[f"3 shared prefix, {n}"] = least_seconds(
            scores(shape, lengths[f"prompts of {n}"], lengths[name], itemsize), best
        )
        least[f"3 peer, {n}"] = least[f"3 shared prefix, {n}"]
    rows = {}
    for way, seconds in told["seconds"].items():
        floor = least.get(way, least["1 "] if way.startswith("1 ") else None)
        if floor:
            rows[way] = {
                "seconds": round(median(seconds), 3),
                "least_seconds": round(floor, 5),
                "over_roofline": round(median(seconds) / floor, 2),
            }
    return {**told, "roofline": rows}


def with_roofline_of_steps(told: Told, shape: Shape, precision: str, peaks: dict[str, float]) -> Told:
    """Rows of `ttft.py`: for every way the seconds of a step, and the least."""
    if not peaks:
        return {**told, "roofline": None}
    best, itemsize = Peaks(peaks[precision], peaks["bytes"]), 4 if precision == "fp32" else 2
    size, rows = told["batch_size"], {}
    sizes = list(told["examples"].values())
    n_tokens = round(sum(each["mean_tokens"] for each in sizes) / len(sizes))
    n_labels = round(size * sum(each["mean_labels"] for each in sizes) / len(sizes))
    for way, rate in told["samples_per_second"].items():
        weights = "lora" if way.startswith("lora") else "all"
        held = 4 if weights == "all" else itemsize
        least = training(shape, [n_tokens] * size, n_labels, weights, held).seconds(best)
        step = size / rate
        rows[way] = {
            "step_seconds": round(step, 5),
            "least_seconds": round(least, 6),
            "over_roofline": round(step / least, 1),
        }
    return {**told, "roofline": rows}


@dataclass(frozen=True)
class Sizes:
    """How large everything is: on a GPU, or as a toy."""

    product: int
    megabytes: int
    ways: tuple[str, ...]
    checks: tuple[str, ...]
    shapes: tuple[str, ...]
    airv: tuple[str, ...]
    ttft: tuple[str, ...]
    box: tuple[str, ...]
    precision: str
    compiled: bool = False
    whole_run: bool = True


ON_A_GPU = Sizes(
    product=8192,
    megabytes=4096,
    ways=("fp32", "fp16", "bf16", "compiled-fp32", "compiled-bf16", "4-bits"),
    checks=(),
    shapes=("0.5B", "4B"),
    airv=("--select", "0:4", "--n-views", "8", "--max-new-tokens", "64", "--candidates", "16", "--repeats", "3"),
    ttft=("--select", "0:2", "--steps", "8", "--repeats", "3"),
    box=("--tasks", "12"),
    precision="bf16",
    compiled=True,
)
ONCE = ("--select", "shortest:1", "--repeats", "1", "--threads", "1")
AS_A_TOY = Sizes(
    product=256,
    megabytes=16,
    ways=("fp32", "bf16", "4-bits"),
    checks=("--tasks", "2", "--views", "2", "--tokens", "12", "--steps", "2"),
    shapes=("toy",),
    airv=(*ONCE, "--n-views", "2", "--max-new-tokens", "6", "--candidates", "4"),
    ttft=(*ONCE, "--steps", "2"),
    box=("--tasks", "1", "--views", "2", "--steps", "2", "--max-new-tokens", "20"),
    precision="fp32",
)
SECONDS = {"machine": 25, "checks": 130, "0.5B": 100, "4B": 140, "toy": 90, "box": 120}
"""The slices of the parts, in proportion: together they are all of the time."""
AT_THE_END = 10.0
"""Seconds that are kept for what comes after the last part."""
TRAINED = {"4B": ("lora",)}
"""Weights that a shape is trained by, where not both."""
ROOM = 32 * 2**30
"""Bytes for the folders of both shapes."""
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl")


def parts_of(sizes: Sizes, device: str, results: Results, scratch: Path, share: float) -> list[Part]:
    """All parts; their slices are `share` times SECONDS."""
    slices = {name: seconds * share for name, seconds in SECONDS.items()}

    def peaks() -> dict[str, float]:
        found: dict[str, float] = results.parts.get("machine", {}).get("rates", {}).get("peaks", {})
        return found

    def machine() -> Iterable[Row]:
        size = "--size", str(sizes.product), "--megabytes", str(sizes.megabytes)
        yield Row("rates", ("roofline.py", "--device", device, *size))

    def checks() -> Iterable[Row]:
        for way in sizes.ways:
            yield Row(way, ("gpu_checks.py", way, "--device", device, "--peaks", json.dumps(peaks()), *sizes.checks))

    def shape(name: str) -> Iterable[Row]:
        """The folder is there until the part after."""
        folder, where = scratch / name, ("--device", device, "--precision", sizes.precision)
        yield Row("folder", ("shapes.py", name, str(folder), "--device", device))
        common = ("--model", str(folder), "--tasks", "arc1:training", *where, "--progress")
        batched = ("--tune", "none", "--batched-only", "--peer-batches", "16", "32", *sizes.airv)

        def of_answers(told: Told) -> Told:
            return with_roofline_of_answers(told, read_shape(folder), peaks())

        def of_steps(told: Told) -> Told:
            return with_roofline_of_steps(told, read_shape(folder), sizes.precision, peaks())

        most = 0.6 * slices[name]
        yield Row("airv", ("airv.py", *common, "--rows", "1", "3", *batched), most, of_answers)
        weights = ("--weights", *TRAINED.get(name, ("lora", "all")))
        yield Row("ttft", ("ttft.py", *common, "--rows", "4", *weights, *sizes.ttft), most, of_steps)
        if sizes.compiled:
            compiled = ("airv.py", *common, "--rows", "1", "--compile", *batched)
            yield Row("airv, compiled", compiled, finish=of_answers)

    def box() -> Iterable[Row]:
        for each in sizes.shapes:
            shutil.rmtree(scratch / each, ignore_errors=True)
        where = ("--device", device, "--peaks", json.dumps(peaks()))
        yield Row("tasks", ("gpu_box.py", *where, *sizes.box), 0.7 * slices["box"])
        if sizes.whole_run:
            yield Row("solve", ("gpu_box.py", "--whole-run", *where, *sizes.box))

    return [
        Part("machine", slices["machine"], machine),
        Part("checks", slices["checks"], checks, together=True),
        *(Part(name, slices[name], lambda name=name: shape(name)) for name in sizes.shapes),
        Part("box", slices["box"], box),
    ]


def scratch_folder() -> Path:
    """A folder in memory where it has room for a model of 4B, else where temporary files lie."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return Path(tempfile.mkdtemp(dir=memory if roomy else None))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0, help="of the whole call, from --since on")
    parser.add_argument("--since", type=float, default=time.time(), help="when the call began, in seconds of the epoch")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="on a CPU, at toy sizes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sizes, device = (AS_A_TOY, "cpu") if options.toy else (ON_A_GPU, options.device)
    versions = {name: version(name) for name in PACKAGES if find_spec(name)}
    facts = {"benchmark": "gpu", "toy": options.toy, "python": platform.python_version(), "versions": versions}
    results, scratch = Results(options.out, facts), scratch_folder()
    begun = time.monotonic() - (time.time() - options.since)
    names = ("machine", "checks", *sizes.shapes, "box")
    share = (60 * options.minutes - AT_THE_END) / sum(SECONDS[name] for name in names)
    try:
        parts = parts_of(sizes, device, results, scratch, share)
        run_parts(parts, results, run_script(options.out), time.monotonic, begun)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        print(json.dumps(results.summary))


if __name__ == "__main__":
    main()
