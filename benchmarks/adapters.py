"""Views of several tasks, each with an adapter of its own: a batch a task, against mixed adapters in one batch.

    python benchmarks/adapters.py [--n-adapters 8] [--n-views 8] [--repeats 5] [--model FOLDER]

Both ways answer the same prompts in turns; the adapters are random and large, so that each answers differently. Prints
a JSON object last: median seconds, the ratio, and how many answers are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import peft
import torch
from airv import commit, hardware

from arc_kaggle import load_tasks
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.engines.base import Completion
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import task_rng

NEVER = Deadline.never()


def with_adapters(model: LoadedModel, n: int) -> LoadedModel:
    """With `n` adapters of rank 16 on all linear layers, as fine-tuning would leave them."""
    config = peft.LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(0)
    network: Any = peft.get_peft_model(model.network, config, adapter_name="a0")
    for i in range(1, n):
        network.add_adapter(f"a{i}", config)
    return replace(model, network=network.eval())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BOX_FOLDER)
    parser.add_argument("--n-adapters", type=int, default=8)
    parser.add_argument("--n-views", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    base = load_model(options.model, "auto", options.device)
    tasks = load_tasks("arc1:evaluation", f"shortest:{options.n_adapters}")
    config = GenerateConfig(n_views=options.n_views)
    groups = [list(make_requests(task, base.notation, config, task_rng(task, 0, "views"))) for task in tasks]
    model = with_adapters(base, options.n_adapters)
    engine, network = HFEngine(model), model.network

    def task_by_task() -> list[Completion]:
        found = []
        for i, group in enumerate(groups):
            network.set_adapter(f"a{i}")  # type: ignore[operator]
            answers = engine.generate([r.ids for r in group], [r.max_new_tokens for r in group], NEVER)
            found += [answer for _, answer in sorted(answers, key=lambda item: item[0])]
        return found

    def mixed() -> list[Completion]:
        rows = [(request, f"a{i}") for i, group in enumerate(groups) for request in group]
        prompts, limits = [request.ids for request, _ in rows], [request.max_new_tokens for request, _ in rows]
        answers = engine.generate(prompts, limits, NEVER, adapters=[name for _, name in rows])
        return [answer for _, answer in sorted(answers, key=lambda item: item[0])]

    ways: dict[str, Callable[[], list[Completion]]] = {"a batch a task": task_by_task, "mixed": mixed}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[Completion]] = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way()
            seconds[name].append(round(time.perf_counter() - started, 3))
    alone, together = found["a batch a task"], found["mixed"]
    same = sum(np.array_equal(a.ids, b.ids) for a, b in zip(alone, together, strict=True))
    ratio = median(seconds["a batch a task"]) / median(seconds["mixed"])
    facts = {
        "benchmark": "adapters",
        "commit": commit(),
        "hardware": hardware(options),
        "adapters": options.n_adapters,
        "prompts": len(alone),
        "same_answers": same,
        "seconds": seconds,
        "ratios": {"mixed": {"ours": "mixed", "peer": "a batch a task", "ratio": round(ratio, 2)}},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
