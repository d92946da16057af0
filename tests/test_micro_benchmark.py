"""The benchmark of micro-step models at toy size: every row is made, once, and one that fails stops no other."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from train_data import random_task, write_tasks_file

from arc_kaggle.errors import TuneError
from arc_kaggle.models.loading import save_model
from arc_kaggle.models.new_model import new_grid_model

MADE = (
    *("plain", "joint, entropy", "joint, merger mean", "stage 1 alone 1e-4", "both stages at the rate of joint"),
    *("joint, LoRA", "joint, refined segments"),
)
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("arc_kaggle.training.validation.MOST_EXAMPLES", 4)
    found = import_module("micro")
    monkeypatch.setattr(found, "STOPS", (1.0, 0.0))
    return found


def options_of(micro: Any, folder: Path) -> Any:
    """On a hundred small rules, some of which are held out, from a base that is sure of some tokens."""
    model = new_grid_model(32, 1, 3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    save_model(model, folder / "base", "none", {})
    data = (write_tasks_file(folder / "data.json", [random_task(f"rule{i}") for i in range(100)]),)
    return replace(
        micro.toy_options(folder / "out", folder / "base"), data=data, against=(), threshold=2.1, max_tokens=128
    )


def test_all_rows_are_made_once_and_one_that_fails_stops_no_other(
    micro: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variant has a training that `train` takes; those are made that differ in more than a number."""
    options, train, trained = options_of(micro, tmp_path), micro.train, []
    all_variants = micro.variants(options)
    assert len({options.training(name, **changes) for name, changes in all_variants.items()}) == len(all_variants) == 14
    monkeypatch.setattr(micro, "variants", lambda _: {name: all_variants[name] for name in MADE})

    def fail(config: Any) -> Any:
        trained.append(config.out.name)
        if config.out.name == "joint-merger-mean":
            raise TuneError("the loss is no number")
        return train(config)

    def no_picture(*_: Any) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr(micro, "train", fail)
    with monkeypatch.context() as patched:
        patched.setattr(micro, "draw", no_picture)
        with pytest.raises(RuntimeError, match="no picture"):
            micro.run(options)
    kept = json.loads((options.out / "rows.json").read_text())
    assert kept["failed"] == {"joint, merger mean": "the loss is no number"}
    assert MADE[-1] in kept["rows"] and (options.out / "table.md").is_file()
    monkeypatch.setattr(micro, "train", lambda config: trained.append(config.out.name) or train(config))
    trained.clear()
    assert micro.run(options) == 0
    assert trained == ["joint-merger-mean"] and (options.out / "attention.png").is_file()
    check_rows(micro, options, json.loads((options.out / "rows.json").read_text())["rows"])


def check_rows(micro: Any, options: Any, rows: dict[str, Any]) -> None:
    """What follows from how each row is made."""
    assert len((options.out / "table.md").read_text().splitlines()) == 2 + len(rows)
    assert all(row["commit"] for row in rows.values())
    for name in ("base before", "plain"):
        alone, own, given = (rows[f"{name}{kind}"] for kind in (", without drafts", "", ", with drafts"))
        assert alone["macro_steps"] >= max(own["macro_steps"], given["macro_steps"])
        assert alone["by_puzzle"] == own["by_puzzle"] == given["by_puzzle"]
    assert rows["base before, without drafts"]["macro_steps"] > rows["base before"]["macro_steps"]
    assert 0 < rows["joint, entropy"]["positions_a_token"] < 0.95
    before = rows["base before"]["loss"]
    assert rows["stage 1 alone 1e-4"]["base_loss"] == before != rows["joint, entropy"]["base_loss"]
    assert rows["joint, entropy, stop 1"]["micro_steps"] == 0 < rows["joint, entropy, stop 0"]["micro_steps"]
    assert {name for name in rows if name.startswith("joint, entropy, stop")} == {
        f"joint, entropy, stop {stop:g}" for stop in micro.STOPS
    }
