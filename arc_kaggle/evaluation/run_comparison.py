"""Runs against each other on the report page: what one solves and the other does not, by exact paired tests."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

from arc_kaggle.evaluation.statistics import Paired, paired

Json = dict[str, Any]
SIGNIFICANT = 0.05
WAYS: Mapping[str, Callable[[Json], bool]] = {
    "as submitted": lambda query: query["kind"] in ("solved", "solved_by_rule"),
    "by the model": lambda query: query["kind"] == "solved",
    "right under some view": lambda query: bool(query["covered"]),
}
"""When a test input counts as solved, from what the page says of it."""


def compare_runs(runs: Sequence[Json]) -> list[Json]:
    """Every two runs, as `run_view` gives them, each way by test outputs and by whole tasks; only those that both have
    and whose answers are known.
    """
    return [
        _comparison(way, unit, first, second)
        for first, second in combinations(runs, 2)
        for way in WAYS
        for unit in ("outputs", "tasks")
    ]


def _comparison(way: str, unit: str, first: Json, second: Json) -> Json:
    one, two = (solved_of(run, way, unit) for run in (first, second))
    found = paired(one, two)
    common = [key for key in one if key in two]
    return {
        "way": way,
        "unit": unit,
        "first": first["name"],
        "second": second["name"],
        **found.to_json(),
        "neither": found.n - found.both - found.only_first - found.only_second,
        "shows": shown_by(found, first["name"], second["name"]),
        "by_first": [key for key in common if one[key] and not two[key]],
        "by_second": [key for key in common if two[key] and not one[key]],
    }


def solved_of(run: Json, way: str, unit: str) -> dict[Hashable, bool]:
    """What a run solved, by the id of a task and the number of a test input from 1; 0 for the only one, or for all."""
    found: dict[Hashable, bool] = {}
    for task_id, task in run["tasks"].items():
        known = {i: query for i, query in enumerate(task["queries"], start=1) if query["answer"] is not None}
        if unit == "tasks":
            whole = len(known) == len(task["queries"])
            found |= {(task_id, 0): all(map(WAYS[way], known.values()))} if whole else {}
        else:
            several = len(task["queries"]) > 1
            found |= {(task_id, i if several else 0): WAYS[way](query) for i, query in known.items()}
    return found


def shown_by(found: Paired, first: str, second: str) -> str:
    """In words: which run is ahead where the exact test says so at 5%, else that there is no evidence."""
    if not found.is_tested:
        return "too few to tell"
    if found.p_value >= SIGNIFICANT:
        return "no evidence of a difference"
    return f"{first if found.uplift > 0 else second} is ahead"
