"""Seconds and memory over the number of views, the length of prompts and the number of tasks: is each of them linear?

    python benchmarks/curves.py --out FILE [--model FOLDER] [--curves views lengths tasks] [--toy]

views    1 to 64 views of one task, answered by the engine in one call; 32 tokens an answer at most.
lengths  2 views of a made-up task whose prompt has 200 to 8,000 tokens, as far as the model takes them.
tasks    20 to 1,000 tasks, by `solve` with the fake engine and one worker: what a run costs beside its model.

Every point is measured in a process of its own, a call to warm up first, then the median of some repeats (fewer where a
call takes long); memory is the most that is held meanwhile, beside what was held before (on a GPU that of the GPU). A
line a point goes into --out, so that the same command goes on where it was stopped. Prints a JSON object last: of each
curve its points, the exponent of seconds and memory over all of it (a line through the logarithms) and at its end (the
last two points), and whether it is linear there or better, which is an exponent of 1.1 at most. Where it is not, the
exponent of the products, by formulas, says what attention is to blame for.

Expected before the first run, two cores, exponents of seconds over all and at the end:
box      views 0.6 and 0.95 (few rows share what a step costs beside them), lengths up to 2,000 0.9 and 1.2
135M     views 0.9 and 1.0, lengths 1.15 and 1.4: at 8,000 tokens attention makes more products than all weights
tasks    0.9 and 1.0; memory 0.3: 30 KB a task beside the process itself
Memory of views and lengths grows by the KV cache: 1.0, until a batch is full; then it stays.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from airv import NEVER, commit, hardware, in_order
from roofline import answers
from scale import write_tasks

from arc_kaggle import SolveConfig, Task, load_tasks, solve
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.engines.hf.batching import bytes_at_hand
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.models.loading import load_model
from arc_kaggle.models.measured import shape_of
from arc_kaggle.system.files import append_lines, read_lines
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.tasks.task import Pair
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt

POINTS = {
    "views": (1, 2, 4, 8, 16, 32, 64),
    "lengths": (200, 500, 1000, 2000, 4000, 8000),
    "tasks": (20, 100, 400, 1000),
}
TOY = {"views": (1, 2, 4), "lengths": (200, 400), "tasks": (2, 4)}
LINEAR = 1.1
"""The largest exponent that counts as linear."""
VIEWS_OF_LENGTHS, MANY_TOKENS = 2, 1_000_000
LONG_SECONDS = 60.0
"""A point is not repeated when it has taken so long in all."""
Point = dict[str, Any]


def task_of_length(n_tokens: int, notation: Notation) -> Task:
    """A made-up task of as many small pairs as its prompt of about `n_tokens` tokens takes."""
    rng = np.random.default_rng(0)

    def grid() -> Any:
        return rng.integers(10, size=(4, 4)).astype(np.int8)

    def with_pairs(n: int) -> Task:
        return Task("made-up", tuple(pairs[:n]), (test,))

    def size(n: int) -> int:
        return notation.n_tokens(query_prompt(next(with_pairs(n).queries), notation))

    test, pairs = Pair(grid(), None), [Pair(grid(), grid()) for _ in range(2)]
    a_pair = size(2) - size(1)
    n_pairs = max(1, 1 + (n_tokens - size(1)) // a_pair)
    pairs += [Pair(grid(), grid()) for _ in range(n_pairs)]
    return with_pairs(n_pairs)


def answering(n_views: int, n_tokens: int | None, options: argparse.Namespace) -> Point:
    """A point of views or lengths: greedy answers of one task, in one call of the engine."""
    model = load_model(options.model, options.precision, options.device)
    engine = HFEngine(model, max_bytes=bytes_at_hand(model.device))
    task = (
        load_tasks("arc1:training", options.task)[0] if n_tokens is None else task_of_length(n_tokens, model.notation)
    )
    longest = MANY_TOKENS if n_tokens is None else 2 * n_tokens
    config = GenerateConfig(n_views=n_views, max_new_tokens=options.new_tokens, max_prompt_tokens=longest)
    requests = [
        each for each in make_requests(task, model.notation, config, task_rng(task, 0, "views")) if not each.query
    ]
    prompts, limits = [each.ids for each in requests], [each.max_new_tokens for each in requests]
    sizes = [len(prompt) for prompt in prompts]
    if n_tokens and max(sizes) < 0.8 * n_tokens:
        return {"left_out": f"the model takes prompts of {model.notation.token_limit} tokens"}
    in_order(engine.generate(prompts[:1], [1], NEVER))  # threads and kernels are there afterwards
    held = Memory(model.device)
    seconds, found = repeated(lambda: in_order(engine.generate(prompts, limits, NEVER)), options.repeats)
    said = [len(each.ids) for each in found]
    flops = sum(each.flops for each in answers(shape_of(model.network), sizes, said, 4))
    tokens = {"prompt_tokens": round(float(np.mean(sizes))), "answer_tokens": sum(said)}
    return {"seconds": seconds, "memory_mib": held.most_mib(), "flops": flops, **tokens}


def running(n_tasks: int, options: argparse.Namespace) -> Point:
    """A point of tasks: a whole run with the fake engine."""
    held, seconds = Memory(torch.device("cpu")), []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_tasks(folder / "tasks.json", n_tasks)
            config = SolveConfig(
                str(folder / "tasks.json"),
                folder / "out",
                engine="fake",
                recipe="none",
                workers=1,
                generate=GenerateConfig(n_views=4),
                scratch=folder / "scratch",
            )
            started = time.perf_counter()
            result = solve(config)
            seconds.append(time.perf_counter() - started)
            assert result.n_answered == n_tasks, f"{result.n_answered} of {n_tasks} tasks were answered"
        if sum(seconds) > LONG_SECONDS:
            break
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    return {"seconds": median(seconds), "memory_mib": held.most_mib(), "worker_mib": round(worker, 1)}


class Memory:
    """The most memory that is held from now on, beside what is held now."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device) / 2**20
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
            self.before = self._of_process("VmRSS")

    def most_mib(self) -> float:
        on_gpu = self.device.type == "cuda"
        most = torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else self._of_process("VmHWM")
        return round(max(0.1, most - self.before), 1)

    def _of_process(self, name: str) -> float:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        return int(lines[name].split()[0]) / 2**10


def repeated(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """(median seconds, what came of it)."""
    seconds: list[float] = []
    found = None
    while len(seconds) < repeats and sum(seconds) < LONG_SECONDS:
        started = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - started)
    return median(seconds), found


def measure(curve: str, at: int, options: argparse.Namespace) -> Point:
    if curve == "tasks":
        return running(at, options)
    return answering(at, None, options) if curve == "views" else answering(VIEWS_OF_LENGTHS, at, options)


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of the line through the logarithms."""
    return round(float(np.polyfit(np.log(xs), np.log(ys), 1)[0]), 3)


def fitted(points: Sequence[Point]) -> dict[str, Any]:
    """Exponents of a curve; points that were left out or failed do not count."""
    good = sorted((each for each in points if "seconds" in each), key=size_of)
    if len(good) < 2:
        return {"told": f"found {len(good)} points, expected two or more"}
    xs, end, found = [size_of(each) for each in good], good[-2:], {}
    for name in ("seconds", "memory_mib", "flops"):
        if name in good[0]:
            all_of_it = exponent(xs, [each[name] for each in good])
            at_end = exponent(xs[-2:], [each[name] for each in end])
            found[name] = {"exponent": all_of_it, "at_the_end": at_end, "linear_or_better": at_end <= LINEAR}
    return {**found, "told": verdict(found)}


def size_of(point: Point) -> float:
    """Where a point lies on its curve: a prompt has not exactly as many tokens as were asked for."""
    return float(point["prompt_tokens"] if point["curve"] == "lengths" else point["at"])


def verdict(found: dict[str, Any]) -> str:
    """Whether the seconds are linear at the end; if not, what of it the products explain."""
    end = found["seconds"]["at_the_end"]
    if end <= LINEAR:
        return "linear or better"
    products = found.get("flops", {}).get("at_the_end", 1.0)
    if end <= products + LINEAR - 1:
        return f"exponent {end} at the end: attention, by which the products grow with exponent {products}"
    return f"exponent {end} at the end, of which the products explain {products}: look for the rest"


def in_own_process(curve: str, at: int, options: argparse.Namespace) -> Point:
    """A point, measured by this script in a new process; with the error where there was one."""
    words = [__file__, *sys.argv[1:], "--point", curve, str(at)]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": f"exit code {done.returncode}, which may be a lack of memory"}
    point: Point = json.loads(lines[-1])
    return point


Measure = Callable[[str, int, argparse.Namespace], Point]


def measure_curves(options: argparse.Namespace, measure_one: Measure) -> dict[str, Any]:
    """All points that are not in the file yet, a line each; then the exponents of all curves."""
    asked = TOY if options.toy else POINTS
    about = {"model": options.model.resolve().name, "precision": options.precision, "device": options.device}
    for curve in options.curves:
        for at in asked[curve]:
            key = {"curve": curve, "at": at, **({} if curve == "tasks" else about)}
            if not any(key.items() <= line.items() and "error" not in line for line in lines_of(options.out)):
                append_lines(options.out, [line := {**key, **measure_one(curve, at, options)}])
                print(json.dumps(line), flush=True)
    found = {}
    for curve in options.curves:
        key = {"curve": curve, **({} if curve == "tasks" else about)}
        points = {line["at"]: line for line in lines_of(options.out) if key.items() <= line.items()}
        points = {at: points[at] for at in asked[curve]}
        found[curve] = {"points": list(points.values()), **fitted(list(points.values()))}
    return found


def lines_of(path: Path) -> list[Point]:
    return [dict(line) for line in read_lines(path).values] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file of the points, a line each")
    parser.add_argument("--model", type=Path, default=BOX_FOLDER)
    parser.add_argument("--curves", nargs="*", default=list(POINTS), choices=POINTS)
    parser.add_argument("--task", default="shortest:1", help="the task of the curve of views, of arc1:training")
    parser.add_argument("--precision", default="fp32", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--new-tokens", type=int, default=32, help="of an answer at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="few small points, one repeat")
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "AT"), help="measure this point alone, in this process")
    options = parser.parse_args()
    if options.toy:
        options.repeats, options.new_tokens = 1, 4
    if options.point:
        print(json.dumps(measure(options.point[0], int(options.point[1]), options)))
        return
    options.threads = torch.get_num_threads()
    found = measure_curves(options, in_own_process)
    facts = {"benchmark": "curves", "commit": commit(), "hardware": hardware(options), "model": options.model.name}
    assert all(
        math.isfinite(each["seconds"]) for curve in found.values() for each in curve["points"] if "seconds" in each
    )
    print(json.dumps({**facts, "curves": found}))


if __name__ == "__main__":
    main()
