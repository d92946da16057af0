"""Ways to select among candidates, and to stop early, side by side over many tasks; and what training verdicts costs.

    python benchmarks/selection.py --out out/selection [--select shortest:100] [--commit ID]

Two runs of `solve` with the model in the box, 16 views and 8 x 8 scores: `answers` with its own recipe, `verdicts` with
as many steps of answers and a third of that again of verdicts (`--verify-share`, `--steps`). Both go on after a kill.
Prints a JSON object last: top 1 and top 2 by every way to select with Wilson intervals, what `--generate.stop-lead`
would have asked, single answers that are right, and exact McNemar tests of one run against the other.

The share was chosen on 12 held-out training rules, of which the right answer was scored among the wrong ones that the
views gave: the judge put the right one over a wrong one in 0.37, 0.69 and 0.37 of the cases with a share of 0.25 of 100
steps, 0.25 of 133 and 0.5 of 200, by margins of about 0.01 nats; the loss of verdicts stays near log 2. None of them
has learnt to judge, so it is the one that leaves the answers their steps.

Expected before the first run, with edition 2 of the model in the box, of about 100 outputs, the easiest to compute of
the set: the right answer among the candidates of 12, votes 7 and 9 (top 1, top 2), cells and probability one less, poe,
nvarc and probmul within one of votes, verify 3 and 5 as by chance; answers as good with verdicts trained as without,
within 2 outputs; a lead of 4 in waves of 4 asks 85% of the views and loses nothing, a lead of 2 view by view 60% and
loses one. Kept is the result of `--select shortest:64`, for want of time: 63 tasks with 69 outputs.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from airv import commit, hardware

from arc_kaggle import load_tasks
from arc_kaggle.answering.candidates import Prediction, read_prediction_folder
from arc_kaggle.commands.score import ScoreConfig, score, table_lines
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.config.model import BOX_FOLDER, recipe_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.evaluation.statistics import paired, wilson
from arc_kaggle.models.card import read_card
from arc_kaggle.run.solve import solve
from arc_kaggle.tasks.grid import same_grid
from arc_kaggle.tasks.task import Task

N_VIEWS, SCORED_VIEWS, MOST_CANDIDATES = 16, 8, 8


def run(name: str, tune: TuneConfig, tasks: Sequence[Task], options: argparse.Namespace) -> dict[str, Any]:
    """One run of `solve`, judged."""
    ids, out = ",".join(task.id for task in tasks), options.out / name
    scores = RescoreConfig(n_views=SCORED_VIEWS, max_candidates=MOST_CANDIDATES, verify=tune.verify_share > 0)
    views = GenerateConfig(n_views=N_VIEWS)
    config = SolveConfig(
        options.tasks, out, ids, tune=tune, generate=views, rescore=scores, first_views=N_VIEWS, workers=1
    )
    result = solve(config)
    judged = score(ScoreConfig(out, options.tasks, ids))
    print(f"{name}\n{table_lines(judged)}", flush=True)
    n = sum(len(task.test) for task in tasks)
    found = read_prediction_folder(out / "predictions")
    return {
        "recipe": {"steps": tune.steps, "verify_share": tune.verify_share},
        "n_tuned": sum(report.run is not None and report.run.tune.steps > 0 for report in result.reports),
        "selection": {way: counts(row, n) for way, row in judged["selection"].items()},
        "stopping": [stopped_at(row, n) for row in judged["stopping"]],
        "views_right": {key: n_right for task in tasks for key, n_right in right_views(task, found[task.id]).items()},
    }


def solved(row: Mapping[str, Any], n: int) -> dict[str, int]:
    """Of `n` outputs those that are right first, and among the first two."""
    return {name: round(row[name]["mean"] * n) for name in ("top_1", "top_2")}


def counts(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The same with their 95% intervals in per cent."""
    intervals = {name: [round(100 * bound, 1) for bound in wilson(k, n)] for name, k in solved(row, n).items()}
    return {**solved(row, n), "n": n, "wilson_95": intervals}


def stopped_at(row: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The share of the views that are asked, and what comes of them."""
    waves = {name: row[name] for name in ("stop_lead", "views_a_wave")}
    return {**waves, "asked": round(row["asked"], 4), **solved(row, n)}


def right_views(task: Task, found: Sequence[Prediction]) -> dict[str, int]:
    """By test output, the views that gave the right answer."""
    return {
        f"{task.id}/{query.index}": sum(
            p.grid is not None and query.answer is not None and same_grid(p.grid, query.answer)
            for p in found
            if p.query == query.index
        )
        for query in task.queries
    }


def compared(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs that some view of a run gave rightly, and all right views of both."""
    ones, others = (row["views_right"] for row in (first, second))
    some = paired({key: n > 0 for key, n in ones.items()}, {key: n > 0 for key, n in others.items()})
    return {"right_in_some_view": some.to_json(), "right_views": [sum(ones.values()), sum(others.values())]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two runs")
    parser.add_argument("--tasks", default="arc1:evaluation")
    parser.add_argument("--select", default="shortest:100")
    parser.add_argument("--verify-share", type=float, default=0.25)
    parser.add_argument("--steps", type=int, help="of the run with verdicts; as many of answers as the recipe has")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help=argparse.SUPPRESS)
    parser.add_argument("--commit", default="", help="of this result, where the checkout does not tell")
    options = parser.parse_args()
    tasks = load_tasks(options.tasks, options.select)
    own = recipe_of(BOX_FOLDER)
    steps = options.steps or round(own.steps / (1 - options.verify_share))
    verdicts = replace(own, steps=steps, verify_share=options.verify_share)
    rows = {name: run(name, tune, tasks, options) for name, tune in (("verdicts", verdicts), ("answers", own))}
    card = read_card(BOX_FOLDER)
    result = {
        "benchmark": "selection",
        "command": f"python benchmarks/selection.py --tasks {options.tasks} --select {options.select}",
        "commit": options.commit or commit(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "hardware": hardware(options),
        "model": {name: card.facts[name] for name in ("steps", "tokens")} if card else None,
        "tasks": {"n": len(tasks), "n_views": N_VIEWS},
        "verdicts_against_answers": compared(rows["verdicts"], rows["answers"]),
        **rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
