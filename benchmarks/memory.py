"""Is peak memory flat over 50 tasks? One task under 50 ids, its colours permuted, so that every task is of one size.

    python benchmarks/memory.py [--model FOLDER]

Prints a JSON object last: the worker's peak in MiB after the 5th, the 10th and the last task.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from arc_kaggle import SolveConfig, load_tasks, solve
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.tasks.augmentation import sample_augmentation
from arc_kaggle.tasks.task import task_to_json

N_TASKS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BOX_FOLDER)
    parser.add_argument("--weights", choices=["all", "lora"], default="all")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    (task,) = load_tasks("arc1:training", "0d3d703e")
    views = [sample_augmentation(rng, len(task.train), symmetry=0) for _ in range(N_TASKS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks_test_challenges.json"
        path.write_text(
            json.dumps({f"copy{i:03}": task_to_json(view.apply_task(task)) for i, view in enumerate(views)})
        )
        config = SolveConfig(
            tasks=str(path),
            out=Path(folder) / "out",
            model=options.model,
            tune=TuneConfig(weights=options.weights, steps=2),
            generate=GenerateConfig(n_views=4),
        )
        result = solve(config)
    peaks = [report.run.peak_memory_mib for report in result.reports if report.run]
    assert len(peaks) == N_TASKS, f"{len(peaks)} of {N_TASKS} tasks were answered"
    row = {"after_5": peaks[4], "after_10": peaks[9], "after_50": peaks[-1], "growth_10_to_50": peaks[-1] - peaks[9]}
    print(json.dumps({"benchmark": "memory", "weights": options.weights, "unit": "MiB", **row}))


if __name__ == "__main__":
    main()
