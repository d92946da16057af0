"""The curves of cost: exponents, what is told of them, points that are not measured twice, and one that is measured."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.torch


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("curves")


def points(power: float, products: float) -> list[dict[str, Any]]:
    common = {"curve": "views", "memory_mib": 5.0}
    return [{**common, "at": x, "seconds": 0.1 * x**power, "flops": 7 * x**products} for x in (64, 1, 8, 2)]


@pytest.mark.parametrize(
    ("power", "products", "told"),
    [
        (1.0, 1.0, "linear or better"),
        (0.4, 1.0, "linear or better"),
        (1.5, 1.45, "attention, by which the products grow with exponent 1.45"),
        (1.5, 1.0, "of which the products explain 1.0: look for the rest"),
    ],
)
def test_exponents_and_what_they_say(curves: Any, power: float, products: float, told: str) -> None:
    found = curves.fitted([*points(power, products), {"curve": "views", "at": 128, "error": "no memory"}])
    assert found["seconds"] == {"exponent": power, "at_the_end": power, "linear_or_better": power <= 1.1}
    assert found["memory_mib"]["exponent"] == 0 and told in found["told"]


def test_the_end_of_a_curve_counts(curves: Any) -> None:
    """Seconds that hardly grow at first and then with the square are not linear, whatever the line through all says."""
    rows = [{"curve": "tasks", "at": x, "seconds": 1 + (x / 50) ** 2, "memory_mib": 1.0} for x in (1, 2, 4, 400, 800)]
    found = curves.fitted(rows)["seconds"]
    assert found["exponent"] < 1.1 < 1.9 < found["at_the_end"] and not found["linear_or_better"]


def test_a_prompt_counts_by_the_tokens_that_it_has(curves: Any) -> None:
    rows = [{"curve": "lengths", "at": x, "prompt_tokens": 2 * x + 3, "seconds": 2 * x + 3.0} for x in (10, 20)]
    assert curves.fitted(rows)["seconds"]["exponent"] == 1.0


def test_points_are_measured_once_and_those_that_failed_again(curves: Any, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def measure(curve: str, at: int, options: argparse.Namespace) -> dict[str, Any]:
        asked.append((curve, at))
        fails = asked.count((curve, at)) == 1 and at == 2
        return {"error": "killed"} if fails else {"seconds": float(at), "memory_mib": 1.0}

    def run(**changes: Any) -> dict[str, Any]:
        given = {"out": tmp_path / "points.jsonl", "model": tmp_path / "one", "precision": "fp32", "device": "cpu"}
        options = argparse.Namespace(**{**given, "toy": True, "curves": ["views", "tasks"], **changes})
        found: dict[str, Any] = curves.measure_curves(options, measure)
        return found

    run()
    assert asked == [("views", 1), ("views", 2), ("views", 4), ("tasks", 2), ("tasks", 4)]
    found = run()
    assert asked[5:] == [("views", 2), ("tasks", 2)]
    assert [point["at"] for point in found["views"]["points"]] == [1, 2, 4]
    assert found["views"]["seconds"]["exponent"] == found["tasks"]["seconds"]["exponent"] == 1.0
    run(model=tmp_path / "other")  # other curves of views, the same of tasks
    assert asked[7:] == [("views", 1), ("views", 2), ("views", 4)]


def test_memory_is_the_most_that_was_held_meanwhile(curves: Any) -> None:
    held = curves.Memory(torch.device("cpu"))
    block = b"1" * 2**27
    del block
    assert 120 < held.most_mib() < 200
    assert curves.Memory(torch.device("cpu")).most_mib() < 100  # of another, later time


def test_a_point_of_the_model_in_the_box(curves: Any) -> None:
    options = argparse.Namespace(
        model=curves.BOX_FOLDER, precision="fp32", device="cpu", task="shortest:1", new_tokens=3, repeats=1
    )
    views = curves.measure("views", 2, options)
    assert views["answer_tokens"] <= 6 and min(views["seconds"], views["flops"]) > 0
    long = curves.measure("lengths", 300, options)
    assert 240 <= long["prompt_tokens"] <= 300
    assert curves.measure("lengths", 4000, options) == {"left_out": "the model takes prompts of 2048 tokens"}
