"""What test-time fine-tuning gains on a pretrained language model that never saw ARC: SmolLM2-135M-Instruct.

    make real-model
    python benchmarks/real_model.py --out out/real-model [--select shortest:24] [--steps 16] [--views 2]

Two runs of `solve` on training tasks of ARC-AGI-1, with and without LoRA fine-tuning, under the same views; both go on
after a kill. It is the model's single answers that are compared: cells that are right, outputs of the right size, and
test inputs with a right answer among the views; no vote and no simple rules take part. Prints a JSON object last.

Expected before the first run, of the 24 training tasks with the shortest prompts: untuned 40% of the cells (it copies
what it sees), 60% of the sizes, 1 test input solved; after 16 steps 65% of the cells, 90% of the sizes, 4 solved.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from airv import commit

from arc_kaggle import SolveConfig, Task, load_tasks, solve
from arc_kaggle.answering.candidates import Prediction, read_prediction_folder
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.evaluation.statistics import mean_difference, paired
from arc_kaggle.tasks.grid import Grid, same_grid

ROOT = Path(__file__).resolve().parents[1]
LORA = LoraConfig(rank=32, alpha=16)
OPTIM = OptimConfig(learning_rate=5e-4, schedule="linear")
Measures = dict[str, dict[tuple[str, int], float]]
"""Each measure by task and test input, 0..1."""


def run(name: str, tune: TuneConfig, options: argparse.Namespace) -> Measures:
    """One run of `solve`, judged."""
    config = SolveConfig(
        tasks=options.tasks,
        select=options.select,
        out=options.out / name,
        model=options.model,
        tune=tune,
        cut_vocabulary=True,
        workers=1,
        first_views=options.views,
        quick_views=1,
        generate=GenerateConfig(n_views=options.views),
        time_limit_minutes=options.minutes,
    )
    solve(config)
    return measure(load_tasks(options.tasks, options.select), read_prediction_folder(config.out / "predictions"))


def measure(tasks: Sequence[Task], predictions: Mapping[str, Sequence[Prediction]]) -> Measures:
    """Of every test input that was answered: the mean over its answers, and whether one of them is right."""
    found: Measures = {"pixels": {}, "size": {}, "solved": {}}
    for query in (query for task in tasks for query in task.queries):
        grids = [p.grid for p in predictions.get(query.task.id, ()) if p.query == query.index]
        if grids and query.answer is not None:
            key, answer = (query.task.id, query.index), query.answer
            found["pixels"][key] = fmean(right_cells(grid, answer) for grid in grids)
            found["size"][key] = fmean(grid is not None and grid.shape == answer.shape for grid in grids)
            found["solved"][key] = float(any(grid is not None and same_grid(grid, answer) for grid in grids))
    return found


def right_cells(grid: Grid | None, answer: Grid) -> float:
    return 0.0 if grid is None or grid.shape != answer.shape else float((grid == answer).mean())


def compared(tuned: Measures, untuned: Measures) -> dict[str, Any]:
    """Means of both over the test inputs that both answered, and their differences with 95% intervals."""
    rows: dict[str, Any] = {}
    for name in tuned:
        both = tuned[name].keys() & untuned[name].keys()
        means = {way: round(fmean(m[name][key] for key in both), 3) for way, m in (("ttft", tuned), ("none", untuned))}
        gain = mean_difference(tuned[name], untuned[name], np.random.default_rng(0))
        rows[name] = {**means, "gain": {key: round(value, 3) for key, value in asdict(gain).items()}}
    solved = ({key: value > 0 for key, value in each["solved"].items()} for each in (tuned, untuned))
    return {**rows, "solved_pairs": paired(*solved).to_json()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / ".data" / "real-model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default="arc1:training")
    parser.add_argument("--select", default="shortest:24")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=600.0, help="most minutes of each of the two runs")
    options = parser.parse_args()
    untuned = run("none", TuneConfig(weights="none"), options)
    tuned = run("ttft", TuneConfig(steps=options.steps, optim=OPTIM, lora=LORA), options)
    facts = {
        "benchmark": "real_model",
        "commit": commit(),
        "cores": os.cpu_count(),
        "model": options.model.name,
        "tasks": options.tasks,
        "select": options.select,
        "steps": options.steps,
        "views": options.views,
        **compared(tuned, untuned),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
