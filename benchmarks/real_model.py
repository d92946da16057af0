"""What test-time fine-tuning gains on a pretrained language model that never saw ARC: SmolLM2-135M-Instruct.

    make real-model
    python benchmarks/real_model.py --out out/real-model.jsonl [--select shortest:24] [--steps 16] [--views 2]

Training tasks of ARC-AGI-1, one after another: each is answered by the untuned model, the model is fine-tuned on it
(LoRA), and it is answered again under the same views. A line a task goes into --out, so that the run goes on after a
kill. Compared are single answers: cells that are right, outputs of the right size, and test inputs with a right answer
among the views; no vote and no simple rules take part. The untuned model writes a grid and then goes on talking, so
that none of its answers ends; `said` is the untuned model with the grids taken out of what it said, whether it ended or
not. Prints a JSON object last.

Expected before the first run, of the 24 training tasks with the shortest prompts: untuned 40% of the cells (it copies
what it sees), 60% of the sizes, 1 test input solved; after 16 steps 65% of the cells, 90% of the sizes, 4 solved.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
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
WAYS = ("ttft", "none", "said")
MEASURES, NEVER = ("pixels", "size", "solved"), Deadline.never()


def compare_on(task: Task, method: Method, config: SolveConfig) -> dict[str, Any]:
    """What the untuned and the tuned model came to on a task: each measure, 0..1, by test input; and seconds."""
    assert method.tuner is not None
    method.tuner.reset()
    started = time.monotonic()
    untuned = answers(task, method, config)
    said = [grid_in(prediction, method) for prediction in untuned]
    answered = time.monotonic()
    report = tune_task(task, method, config, NEVER)
    tuned = answers(task, method, config)
    found = {"none": judge(task, untuned), "said": judge(task, said), "ttft": judge(task, tuned)}
    losses = {"first_loss": report.first_loss, "last_loss": report.last_loss}
    outcome = {"tune": report.text, "steps": report.steps, **losses, "seconds": [answered - started, report.seconds]}
    return {"task": task.id, **found, **outcome}


def answers(task: Task, method: Method, config: SolveConfig) -> list[Prediction]:
    predictions: list[Prediction] = []
    answer_views([task], range(config.generate.n_views), method, config, NEVER, predictions.append)
    return predictions


def grid_in(prediction: Prediction, method: Method) -> Prediction:
    """A prediction with the last grid that stands in its text."""
    notation = method.notation
    seen = replace(notation, format=replace(notation.format, extract="lines")).extract(prediction.text)
    return prediction if seen is None else replace(prediction, grid=prediction.augmentation.invert(seen), reason=None)


def judge(task: Task, predictions: Sequence[Prediction]) -> list[dict[str, float]]:
    """By test input: the mean over its answers, and whether one of them is right."""
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
    """Means of all ways over all test inputs; what TTFT gains on each of the others, with paired 95% intervals."""
    rows: dict[str, Any] = {"n_tasks": len(lines), "n_test_inputs": sum(len(line["ttft"]) for line in lines)}
    for name in MEASURES:
        ways = {
            way: {(line["task"], i): row[name] for line in lines for i, row in enumerate(line[way])} for way in WAYS
        }
        rows[name] = {way: round(fmean(values.values()), 3) for way, values in ways.items()}
        for way in WAYS[1:]:
            gain = mean_difference(ways["ttft"], ways[way], np.random.default_rng(0))
            rows[name][f"gain_on_{way}"] = [round(each, 3) for each in (gain.mean, gain.low, gain.high)]
    solved = {way: {key: value > 0 for key, value in values.items()} for way, values in ways.items()}
    return {**rows, "solved_pairs": {way: paired(solved["ttft"], solved[way]).to_json() for way in WAYS[1:]}}


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
