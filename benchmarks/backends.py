"""vLLM against the engine on Hugging Face on the AIRV batch of some tasks, and an adapter's swap against a new engine.

    python benchmarks/backends.py --model FOLDER [--select shortest:20] [--n-views 16] [--repeats 3] [--adapters 10] ...

Runs where vLLM is installed (`make test-backends` makes such an environment). Both engines answer the same prompts of
the untuned model, all tasks in one batch, taking turns; tokens are compared one by one, with the log-probability of
the answer where texts differ. Then as many adapters as asked for are put, asked for one answer and dropped, in one
engine; and a new engine is started and asked for one answer, once for each repeat. Medians; prints a JSON object last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from airv import commit

from arc_kaggle import load_tasks
from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.vllm import VLLMEngine
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.run.worker.engine_setup import served_of, start_vllm
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import held_bytes
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.tuning.tunable_weights import LoraAdapter

NEVER = Deadline.never()


def main() -> None:
    options = parse()
    config = SolveConfig(
        options.tasks,
        Path("."),
        select=options.select,
        model=options.model,
        precision=options.precision,
        device=options.device,
        engine="vllm",
        tune=TuneConfig(),
        generate=GenerateConfig(n_views=options.n_views),
        vllm=VLLMConfig(eager=options.eager, cache_gb=options.cache_gb),
    )
    torch.set_num_threads(options.threads)
    model = load_model(config.model, config.precision, config.device)
    requests = requests_of(model, config)
    started = time.perf_counter()
    engine = start_vllm(served_of(model, config), config)
    answer(engine, requests[:1])
    facts = {"first_answer_seconds": round(time.perf_counter() - started, 1), **batch(engine, model, requests, options)}
    facts |= adapters(engine, model, config, requests[0], options)
    engine.close()
    facts |= {"restart_seconds": restarts(model, config, requests[0], options.repeats)}
    facts["restart_over_swap"] = round(facts["restart_seconds"] / facts["swap_seconds"], 1)
    print(json.dumps({"commit": commit(), "vllm": vllm_version(), "hardware": hardware(), **about(options), **facts}))


def requests_of(model: LoadedModel, config: SolveConfig) -> list[Request]:
    return [
        request
        for task in load_tasks(config.tasks, config.select)
        for request in make_requests(task, model.notation, config.generate, task_rng(task, 0, "views"))
    ]


def answer(engine: Engine, requests: list[Request], adapters: list[str] | None = None) -> list[Completion]:
    prompts, limits = [request.ids for request in requests], [request.max_new_tokens for request in requests]
    return [each for _, each in sorted(engine.generate(prompts, limits, NEVER, adapters=adapters), key=lambda x: x[0])]


def batch(
    engine: VLLMEngine, model: LoadedModel, requests: list[Request], options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of either engine for all requests. vLLM forgets what it has in its cache of prefixes in between."""
    hf = HFEngine(replace(model, autocast=None))
    seconds: dict[str, list[float]] = {"hf": [], "vllm": []}
    found: dict[str, list[Completion]] = {}
    for _ in range(options.repeats):
        engine.process.renew()
        answer(engine, requests[:1])
        for name, each in (("hf", hf), ("vllm", engine)):
            found[name], taken = timed(partial(answer, each, requests))
            seconds[name].append(taken)
    ours, theirs = found["hf"], found["vllm"]
    n_tokens = sum(len(each.ids) for each in ours)
    return {
        "prompts": len(requests),
        "prompt_tokens": sum(len(request.ids) for request in requests),
        "answer_tokens": n_tokens,
        "seconds": {name: round(median(each), 3) for name, each in seconds.items()},
        "hf_over_vllm": round(median(seconds["hf"]) / median(seconds["vllm"]), 3),
        "same_texts": sum(one.ids.tolist() == other.ids.tolist() for one, other in zip(ours, theirs, strict=True)),
        "largest_differences_nats": differences(ours, theirs),
    }


def differences(ours: list[Completion], theirs: list[Completion]) -> list[float]:
    """Of the log-probabilities of both answers, where their texts differ."""
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one.ids.tolist() != other.ids.tolist()]
    return sorted((round(one.log_prob - other.log_prob, 4) for one, other in pairs), key=abs)[-5:]


def adapters(
    engine: VLLMEngine, model: LoadedModel, config: SolveConfig, request: Request, options: argparse.Namespace
) -> dict[str, Any]:
    """Seconds from an adapter in memory to its first token, by a swap; and what vLLM's process holds meanwhile."""
    adapter = LoraAdapter(model, config.tune.lora)
    first = replace(request, max_new_tokens=1)

    def write(folder: Path) -> None:
        folder.mkdir()
        adapter.save(folder)

    def swap() -> None:
        name = engine.put(write)
        answer(engine, [first], [name])
        engine.drop(name)

    seconds, held = [], []
    for seed in range(options.adapters):
        adapter.reset(seed)
        seconds.append(timed(swap)[1])
        held.append(round(held_bytes(engine.process.process.pid) / 2**20))
    adapter.detach()
    return {"swap_seconds": round(median(seconds), 3), "held_mib": {"first": held[0], "most": max(held)}}


def restarts(model: LoadedModel, config: SolveConfig, request: Request, repeats: int) -> float:
    """Seconds from nothing to the first token of a new engine."""

    def restart() -> None:
        engine = start_vllm(served_of(model, config), config)
        answer(engine, [replace(request, max_new_tokens=1)])
        engine.close()

    return round(median(timed(restart)[1] for _ in range(repeats)), 1)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", default="arc1:evaluation")
    parser.add_argument("--select", default="shortest:20")
    parser.add_argument("--model", type=Path, required=True, help="one that vLLM takes, not a GridLM")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--n-views", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--adapters", type=int, default=10)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--cache-gb", type=float, default=2)
    parser.add_argument("--eager", action="store_true")
    return parser.parse_args()


def about(options: argparse.Namespace) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


def vllm_version() -> str:
    """Of the package that holds it: there are builds by other names."""
    (package,) = packages_distributions()["vllm"]
    return f"{package} {version(package)}"


def hardware() -> str:
    gpu = f"{torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} {platform.machine()} cores, {gpu}, torch {torch.__version__}, numpy {np.__version__}"


if __name__ == "__main__":
    main()
