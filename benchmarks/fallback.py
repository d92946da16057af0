"""What the fallback rule is worth beside [[0]] and beside the test input: on training tasks, without any model.

    python benchmarks/fallback.py [--out benchmarks/results/fallback.json --commit ID]

`solved`: test outputs of which one of the two attempts is right in every cell. `right_size`: one of them has the right
size. `cells`: mean over the test outputs of the share of cells that the better attempt has right; 0 where the size is
wrong. `given`: test outputs for which there is an attempt: what a rule says that holds for all train pairs (`proven`)
takes the second attempt from the second candidate (submission.py). Evaluation tasks take no part. Prints a JSON object
last.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from arc_kaggle import load_tasks
from arc_kaggle.answering.simple_rules import fallback_grids, proven_grids
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.tasks.task import Query

SETS = ("arc1:training", "arc2:training")
WAYS: dict[str, Callable[[Query], Sequence[Grid]]] = {
    "single cell": lambda query: [as_grid([[0]])] * 2,
    "test input": lambda query: [query.input, np.full_like(query.input, np.bincount(query.input.ravel()).argmax())],
    "fallback": lambda query: fallback_grids(query)[:2],
    "proven": lambda query: proven_grids(query)[:1],
}
"""`test input` is the rule before this one: the input as it is, then every cell its commonest colour."""


def judge(way: Callable[[Query], Sequence[Grid]], queries: Sequence[Query]) -> dict[str, float]:
    given = solved = right_size = cells = 0.0
    started = time.process_time()
    for query in queries:
        answer, attempts = query.answer, way(query)
        assert answer is not None
        shares = [float((grid == answer).mean()) for grid in attempts if grid.shape == answer.shape]
        given += bool(attempts)
        solved += any(same_grid(grid, answer) for grid in attempts)
        right_size += bool(shares)
        cells += max(shares, default=0.0)
    seconds = time.process_time() - started
    n = len(queries)
    return {
        "n": n,
        "given": int(given),
        "solved": int(solved),
        "solved_share": round(solved / n, 4),
        "right_size": round(right_size / n, 4),
        "cells": round(cells / n, 4),
        "cpu_ms_a_query": round(1000 * seconds / n, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where the result is written too")
    parser.add_argument("--commit", default="", help="of this result")
    options = parser.parse_args()
    rows = []
    print(f"{'tasks':16}{'attempts':14}{'solved':>12}{'right size':>12}{'cells':>8}")
    for name in SETS:
        queries = [query for task in load_tasks(name) for query in task.queries]
        for way, make in WAYS.items():
            row = judge(make, queries)
            rows.append({"tasks": name, "attempts": way, **row})
            solved = f"{row['solved']} of {row['given']}"
            print(f"{name:16}{way:14}{solved:>12}{row['right_size']:12.1%}{row['cells']:8.1%}", flush=True)
    result = {
        "benchmark": "fallback",
        "command": "python benchmarks/fallback.py",
        "commit": options.commit,
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
