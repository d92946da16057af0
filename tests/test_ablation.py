"""The ablation of GridLM: which rows are missing, hours that are kept to, and variants that do differ."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.torch


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("ablation")


@pytest.fixture
def made(ablation: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The keys of rows as they are made, in no time at all."""
    keys: list[Any] = []

    def make(key: Any, setting: Any, n_steps: int) -> dict[str, Any]:
        keys.append(key)
        measured = {"mean": len(key.variant) + key.seed, "weights": 7, "steps": 100}
        return {**key._asdict(), **measured, "cpu_s": 60 * key.minutes, "wall_s": 120 * key.minutes}

    monkeypatch.setattr(ablation, "make_row", make)
    return keys


def test_exactly_the_missing_rows_are_made_and_rows_of_equal_steps_stay(
    ablation: Any, made: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"what": "text", "rows": [{"variant": "AdamW", "steps": 600, "seed": 0}]}))
    key, base = ablation.Key, ablation.BASE
    lines: list[str] = []

    def go(hours: float | None, only: tuple[str, ...], clock: Any) -> None:
        table = ablation.Table.read(path)
        ablation.make_missing(table, table.missing([10, 3], (0, 1), only), lambda: "data", hours, lines.append, clock)

    go(None, ("z-loss",), lambda: 0.0)
    first = [key(name, each, seed) for each in (3, 10) for seed in (0, 1) for name in (base, "z-loss 1e-4")]
    assert made == first and lines[0] == "8 rows to go: about 0.90 h of one free core, no limit"
    go(0.15, ("z-loss", "AdamW"), map(float, count(0, 100)).__next__)
    assert made[8:] == [key("AdamW", 3, 0)], "100 s a look, and a row takes twice its CPU seconds: one fits 540 s"
    assert lines[-1] == "7 rows are left; the next takes 390 s and would end too late"
    go(None, (), lambda: 0.0)
    table = ablation.Table.read(path)
    assert len(set(made)) == len(made) == 4 * len(ablation.VARIANTS) and table.missing([3, 10], (0, 1), ()) == []
    assert table.about == {"what": "text"} and table.rows[0] == {"variant": "AdamW", "steps": 600, "seed": 0}
    go(None, (), lambda: 0.0)
    assert len(made) == 4 * len(ablation.VARIANTS) and lines[-1].startswith("0 rows to go")


def test_processes_of_other_seeds_keep_each_others_rows(ablation: Any, made: list[Any], tmp_path: Path) -> None:
    tables = [ablation.Table.read(tmp_path / "new" / "rows.json") for _ in range(2)]
    for seed, table in enumerate(tables):
        ablation.make_missing(table, table.missing([3], [seed], ["z-loss"]), lambda: "data", None, lambda line: None)
    assert [(row["variant"], row["seed"]) for row in ablation.Table.read(tables[0].path).rows] == [
        (name, seed) for seed in (0, 1) for name in (ablation.BASE, "z-loss 1e-4")
    ]


def test_the_table_has_differences_to_the_base_of_the_same_seed_and_variants_that_went_come_last(ablation: Any) -> None:
    means = {
        ("a variant that went", 0): 0.4,
        (ablation.BASE, 0): 0.5,
        (ablation.BASE, 1): 0.7,
        ("AdamW", 0): 0.6,
        ("AdamW", 1): 0.9,
        ("96 x 4", 1): 0.6,
    }
    rows = {
        ablation.Key(name, 3, seed): {"mean": mean, "weights": 9, "steps": 5} for (name, seed), mean in means.items()
    }
    assert ablation.markdown(rows).splitlines()[2:] == [
        "| the base | 9 | 0.600 |  | 2 | 5 |",
        "| AdamW | 9 | 0.750 | +0.150 (+0.100..+0.200) | 2 | 5 |",
        "| 96 x 4 | 9 | 0.600 | -0.100 (-0.100..-0.100) | 1 | 5 |",
        "| a variant that went | 9 | 0.400 | -0.100 (-0.100..-0.100) | 1 | 5 |",
    ]


def test_every_variant_trains_and_differs_from_the_base_which_is_the_same_behind_them(
    ablation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After twelve steps of a tiny model on eight rules, by validation loss; a look at the clock takes a second."""
    from train_data import CLEAN, SECRET, write_tasks_file

    monkeypatch.setattr(ablation, "time", SimpleNamespace(process_time=count().__next__, monotonic=lambda: 0.0))
    data, against = (
        write_tasks_file(tmp_path / f"{name}.json", tasks) for name, tasks in (("rules", CLEAN), ("against", [SECRET]))
    )
    setting = ablation.setting_of((data,), ablation.TOY, against=(against,), hold_out=0.6)

    def mean_of(name: str) -> float:
        row = ablation.make_row(ablation.Key(name, 13 / 60, 0), setting, 12)
        assert row["steps"] == 12 and row["mean"] == row["rules.json"]
        return float(row["mean"])

    base = mean_of(ablation.BASE)
    alike = (ablation.BASE, "192 x 6", "growing lengths")  # slow, and of no effect on grids as small as these
    others = {name: mean_of(name) for name in ablation.VARIANTS if name not in alike}
    assert {name for name, mean in others.items() if mean == base} == set()
    assert mean_of(ablation.BASE) == base
