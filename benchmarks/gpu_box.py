"""The model in the box and its recipe on a device and on a CPU: seconds and answers, task by task.

    python benchmarks/gpu_box.py [--device cuda] [--peaks JSON] [--tasks N] [--views N] [--steps N]

Each task is fine-tuned and its views are answered greedily, on the device and then on a CPU, as a worker of `solve`
does it; with `--whole-run` it is `solve` itself, on the device. Prints a JSON object for each task as soon as it is
done: seconds of both, losses, how many answers are equal cell by cell, and whether one of them is right. Losses and
answers differ by rounding, which the steps make larger.
Expected, with edition 2: 7 of 10 answers equal, as steps have bf16 products on a GPU; a fifth of the seconds of 16
cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from roofline import Peaks, answers, least_seconds, training

from arc_kaggle import SolveConfig, Task, load_tasks, recipe_of, solve
from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.models.memory_formulas import read_shape
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import Method, answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.tasks.grid import same_grid

NEVER = Deadline.never()
MOST_MINUTES = 1.0
"""Of a whole run."""


def solve_on(task: Task, method: Method, config: SolveConfig, peaks: dict[str, float]) -> tuple[dict[str, Any], Any]:
    """(what a task came to, its predictions)."""
    started = time.perf_counter()
    report = tune_task(task, method, config, NEVER)
    tuned = time.perf_counter()
    predictions: list[Prediction] = []
    answer_views([task], range(config.generate.n_views), method, config, NEVER, predictions.append)
    seconds = {"tune": round(tuned - started, 2), "answer": round(time.perf_counter() - tuned, 2)}
    losses = {"tune": report.text, "steps": report.steps, "losses": [report.first_loss, report.last_loss]}
    found = {**losses, "seconds": seconds, "solved": n_solved(task, predictions)}
    if peaks:
        least = least_of(task, method, config, predictions, report.steps, peaks)
        over = {name: round(seconds[name] / least[name], 1) for name in seconds}
        found |= {"least_seconds": least, "over_roofline": over}
    return found, {(each.query, each.view): each.grid for each in predictions}


def least_of(
    task: Task, method: Method, config: SolveConfig, found: list[Prediction], steps: int, peaks: dict[str, float]
) -> dict[str, float]:
    """Least seconds of the steps and of the answers, on weights of four bytes, at the device's best rate."""
    shape, best = read_shape(BOX_FOLDER), Peaks(max(peaks[name] for name in ("fp32", "bf16", "fp16")), peaks["bytes"])
    n_tokens = config.tune.tokens_per_step or 1
    step = training(shape, [n_tokens], n_tokens // 4, "all", 4)
    requests = make_requests(task, method.notation, config.generate, task_rng(task, config.seed, "views"))
    prompts = [len(request.ids) for request in requests]
    said = [len(method.notation.ids(each.text)) + 1 for each in found]
    return {"tune": steps * step.seconds(best), "answer": least_seconds(answers(shape, prompts, said, 4), best)}


def n_solved(task: Task, predictions: list[Prediction]) -> int:
    """Test inputs with a right answer among the views."""
    wanted = {query.index: query.answer for query in task.queries}
    right = {
        each.query
        for each in predictions
        if each.grid is not None and (answer := wanted[each.query]) is not None and same_grid(each.grid, answer)
    }
    return len(right)


def compared(one: dict[Any, Any], other: dict[Any, Any]) -> dict[str, int]:
    """How many answers are equal, those that are no grid among them."""
    same = sum(
        (a is None and b is None) or (a is not None and b is not None and same_grid(a, b))
        for a, b in ((one[key], other[key]) for key in one)
    )
    return {"same_answers": same, "of": len(one), "grids": sum(grid is not None for grid in one.values())}


def whole_run(config: SolveConfig, select: str) -> dict[str, Any]:
    """Seconds and score of a run of `solve` on the tasks, its worker's start among the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        result = solve(replace(config, out=out, select=select, time_limit_minutes=MOST_MINUTES))
        score = json.loads((out / "report.json").read_text(encoding="utf-8"))["scores"]["kaggle"]["mean"]
    return {"seconds": round(result.seconds, 1), "answered": result.n_answered, "score": score}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peaks", type=json.loads, default={}, help="what roofline.py has measured on the device")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of fine-tuning, where not the recipe's own")
    parser.add_argument("--max-new-tokens", type=int, default=GenerateConfig().max_new_tokens)
    parser.add_argument("--whole-run", action="store_true", help="by `solve`, and on the device alone")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    recipe = recipe_of(BOX_FOLDER)
    config = SolveConfig(
        "arc1:training",
        Path("out"),
        engine="hf",
        precision="auto",
        device=options.device,
        tune=replace(recipe, steps=options.steps or recipe.steps),
        generate=GenerateConfig(n_views=options.views, max_new_tokens=options.max_new_tokens),
    )
    on_cpu = replace(config, device="cpu")
    if options.whole_run:
        print(json.dumps(whole_run(config, f"shortest:{options.tasks}")))
        return
    methods = {"device": (load_method(config), config), "cpu": (load_method(on_cpu), on_cpu)}
    for task in load_tasks(config.tasks, f"shortest:{options.tasks}"):
        row: dict[str, Any] = {"row": task.id}
        grids = {}
        for name, (method, its_config) in methods.items():
            row[name], grids[name] = solve_on(task, method, its_config, options.peaks if name == "device" else {})
        print(json.dumps({**row, **compared(grids["device"], grids["cpu"])}), flush=True)


if __name__ == "__main__":
    main()
