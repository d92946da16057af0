"""What test-time fine-tuning gains on a pretrained language model that never saw ARC: SmolLM2-135M-Instruct.

    make real-model
    python benchmarks/real_model.py --out out/real-model.jsonl [--select shortest:24] [--steps 16] [--views 2]

Training tasks of ARC-AGI-1, one after another: each is answered by the untuned model, the model is fine-tuned on it
(LoRA), and it is answered again under the same views. A line a task goes into --out, so that the run goes on after a
kill. Compared are single answers: cells that are right, outputs of the right size, and test inputs with a right answer
among the views; no vote and no simple rules take part. Prints a JSON object last.

Expected before the first run, of the 24 training tasks with the shortest prompts: untuned 40% of the cells (it copies
what it sees), 60% of the sizes, 1 test input solved; after 16 steps 65% of the cells, 90% of the sizes, 4 solved.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from airv import commit

from arc_kaggle import SolveConfig, Task, load_tasks
from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.evaluation.statistics import mean_difference, paired
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import Method, answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import append_lines, read_lines
from arc_kaggle.tasks.grid import Grid, same_grid

ROOT = Path(__file__).resolve().parents[1]
LORA = LoraConfig(rank=32, alpha=16)
OPTIM = OptimConfig(learning_rate=5e-4, schedule="linear")
MEASURES, NEVER = ("pixels", "size", "solved"), Deadline.never()


def compare_on(task: Task, method: Method, config: SolveConfig) -> dict[str, Any]:
    """What the untuned and the tuned model came to on a task: each measure, 0..1, by test input; and seconds."""
    assert method.tuner is not None
    method.tuner.reset()
    started = time.monotonic()
    untuned = measure(task, method, config)
    answered = time.monotonic()
    report = tune_task(task, method, config, NEVER)
    found = {"none": untuned, "ttft": measure(task, method, config), "tune": report.text, "steps": report.steps}
    losses = {"first_loss": report.first_loss, "last_loss": report.last_loss}
    return {"task": task.id, **found, **losses, "seconds": [answered - started, report.seconds]}


def measure(task: Task, method: Method, config: SolveConfig) -> list[dict[str, float]]:
    """By test input: the mean over its answers, and whether one of them is right."""
    predictions: list[Prediction] = []
    answer_views([task], range(config.generate.n_views), method, config, NEVER, predictions.append)
    rows = []
    for query in task.queries:
        grids, answer = [p.grid for p in predictions if p.query == query.index], query.answer
        assert answer is not None
        rows.append(
            {
                "pixels": fmean(right_cells(grid, answer) for grid in grids),
                "size": fmean(grid is not None and grid.shape == answer.shape for grid in grids),
                "solved": float(any(grid is not None and same_grid(grid, answer) for grid in grids)),
            }
        )
    return rows


def right_cells(grid: Grid | None, answer: Grid) -> float:
    return 0.0 if grid is None or grid.shape != answer.shape else float((grid == answer).mean())


def compared(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Means of both over all test inputs, and their paired differences with 95% intervals."""
    rows: dict[str, Any] = {"n_tasks": len(lines)}
    for name in MEASURES:
        tuned, untuned = (
            {(line["task"], i): row[name] for line in lines for i, row in enumerate(line[way])}
            for way in ("ttft", "none")
        )
        gain = mean_difference(tuned, untuned, np.random.default_rng(0))
        means = {"ttft": round(fmean(tuned.values()), 3), "none": round(fmean(untuned.values()), 3)}
        rows[name] = {**means, "n": gain.n, "gain": [round(each, 3) for each in (gain.mean, gain.low, gain.high)]}
    solved = ({key: value > 0 for key, value in way.items()} for way in (tuned, untuned))
    return {**rows, "solved_pairs": paired(*solved).to_json()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / ".data" / "real-model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default="arc1:training")
    parser.add_argument("--select", default="shortest:24")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--views", type=int, default=2)
    options = parser.parse_args()
    config = SolveConfig(
        options.tasks,
        options.out,
        model=options.model,
        engine="hf",
        cut_vocabulary=True,
        tune=TuneConfig(steps=options.steps, optim=OPTIM, lora=LORA),
        generate=GenerateConfig(n_views=options.views),
    )
    done, method = {line["task"] for line in read_lines(options.out).values}, load_method(config)
    for task in load_tasks(options.tasks, options.select):
        if task.id not in done:
            append_lines(options.out, [line := compare_on(task, method, config)])
            print(json.dumps(line), flush=True)
    facts = {
        "benchmark": "real_model",
        "commit": commit(),
        "cores": os.cpu_count(),
        "model": options.model.name,
        **{name: getattr(options, name) for name in ("tasks", "select", "steps", "views")},
        **compared(list(read_lines(options.out).values)),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
