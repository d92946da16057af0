"""Studies whose rows share tuned weights, and studies of adapters, by the real engine on small models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import InProcessWorker
from models import lively_model
from processes import write_tasks

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.evaluation.study.study import run_study
from arc_kaggle.evaluation.study.table import StudyRow
from arc_kaggle.models.loading import save_model
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tuning.outcome import TuneReport
from arc_kaggle.tuning.tunable_weights import LoraAdapter

QUICK = ("precision=fp32", "generate.n-views=2", "generate.max-new-tokens=6", "tune.steps=1", "tune.max-tokens=512")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(lively_model(0, "grid"), folder, "box", {})
    return folder


def study(name: str, folder: Path, **options: Any) -> list[StudyRow]:
    chosen = {"set": QUICK, "n_tasks": 2, "seeds": 1, **options}
    config = StudyConfig(name, tasks=str(write_tasks(folder, 2)), out=folder / "study", **chosen)
    return run_study(config, lambda _: None, start=InProcessWorker)


def said_by(folder: Path, row: str, model: str, file: str) -> Any:
    """A file of the run of a row."""
    return json.loads((folder / "study" / "runs" / safe_name(f"{row} {model}") / "seed-0/part-000" / file).read_text())


def tunings(folder: Path, row: str, model: str) -> list[str]:
    """What the run of a row says of fine-tuning, for each puzzle."""
    reports = said_by(folder, row, model, "report.json")["reports"]
    return [TuneReport.from_json(report["run"]["tune"]).text for report in reports]


def test_each_puzzle_is_tuned_once_and_all_rows_answer_with_these_weights(model: Path, tmp_path: Path) -> None:
    over = ("generate.decoding.temperature=0,5",)
    cold, hot = study("temperature", tmp_path, models=(model,), over=over)
    assert (cold.name, hot.name) == ("temperature=0", "temperature=5") and set(cold.values) == set(hot.values)
    kept = sorted((tmp_path / "study" / "tuned").glob("*/seed-0/*/task.json"))
    assert len(kept) == 2 and tunings(tmp_path, "tuning", "small") == ["tuned"] * 2
    for row in ("temperature=0", "temperature=5"):
        assert tunings(tmp_path, row, "small") == [f"tuned (before, in {path.parent})" for path in kept]


def test_an_adapter_goes_on_or_is_left_out(model: Path, tmp_path: Path) -> None:
    """Three rows on one base: fine-tuning goes on from the adapter, begins without it, or leaves it as it is."""
    from arc_kaggle.models.loading import load_model

    lora = LoraAdapter(load_model(model, "fp32"), LoraConfig(rank=3))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in lora.parameters:
            parameter.normal_(std=0.2)
    adapter = tmp_path / "mine"
    lora.save(adapter)
    options = {"set": (*QUICK, "recipe=lora", "tune.optim.learning-rate=1e-5"), "base": model, "models": (adapter,)}
    rows = study("continue-adapter", tmp_path, **options)
    assert [row.name for row in rows] == ["continued", "fresh", "adapter alone"]
    used = {row.name: said_by(tmp_path, row.name, "mine", "config.json")["adapter"] for row in rows}
    assert used == {"continued": str(adapter), "fresh": None, "adapter alone": str(adapter)}
    assert tunings(tmp_path, "continued", "mine") == tunings(tmp_path, "fresh", "mine") == ["tuned"] * 2
    assert tunings(tmp_path, "adapter alone", "mine") == ["base: not fine-tuned"] * 2
