"""Training of micro-step models, their folders, and the commands that take or refuse them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import workers_in_process
from models import weights_of
from train_data import rows_of, tiny_config

from arc_kaggle.cli import main
from arc_kaggle.config.answer import Decoding, GenerateConfig
from arc_kaggle.config.micro import MicroConfig, has_micro_steps
from arc_kaggle.config.model import SMALL_BYTES
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.errors import ArcKaggleError, ConfigError, ModelError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.micro.folder import load_micro
from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.run.launch.start import count_workers
from arc_kaggle.training.session import train


@pytest.fixture
def start(tmp_path: Path) -> Path:
    save_model(new_model(32, 1, 3), tmp_path / "start", "none", {})
    return tmp_path / "start"


def micro_config(tmp_path: Path, start: Path, **changes: Any) -> Any:
    micro = MicroConfig("entropy", threshold=1.5, most_tokens=4, stop=0.3)
    return tiny_config(tmp_path, start=start, micro=micro, **changes)


def test_the_first_stage_leaves_the_base_bit_for_bit(tmp_path: Path, start: Path) -> None:
    stages = {"first_stage_steps": 2, "first_stage_modules": ("merger", "micro"), "first_stage_learning_rate": 1e-2}
    config = micro_config(tmp_path, start, steps=3, save_every=2, optim=OptimConfig(learning_rate=1e-2), **stages)
    train(config)
    first = load_model(config.out / "checkpoints" / "step-00000002" / "base", "fp32", "cpu")
    assert weights_of(first.network) == weights_of(load_model(start, "fp32", "cpu").network)
    assert weights_of(load_model(config.out / "base", "fp32", "cpu").network) != weights_of(first.network)
    assert weights_of(load_network(config.out / "reference", torch.float32)) == weights_of(first.network)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, start: Path) -> None:
    config = micro_config(tmp_path, start, steps=4, save_every=2)
    train(config)
    rows = rows_of(config)
    for step in ("step-00000004",):
        import shutil

        shutil.rmtree(config.out / "checkpoints" / step)
    train(config)
    assert rows_of(config) == rows


def test_an_adapter_on_the_base_is_saved_merged(tmp_path: Path, start: Path) -> None:
    config = micro_config(tmp_path, start, weights="lora", lora=LoraConfig(4), optim=OptimConfig(learning_rate=1e-2))
    train(config)
    base = load_model(config.out / "base", "fp32", "cpu").network
    names = {name: tensor.shape for name, tensor in base.state_dict().items()}
    assert names == {n: t.shape for n, t in load_model(start, "fp32", "cpu").network.state_dict().items()}
    assert weights_of(base) != weights_of(load_model(start, "fp32", "cpu").network)


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_it_is_solved_with_and_converted(
    tmp_path: Path, start: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kind in this process, the second one as every run is, with a worker of its own."""
    if kind == "llama":
        workers_in_process(monkeypatch)
    else:
        start = tmp_path / "grid"
        save_model(new_grid_model(32, 1, 3), start, "none", {})
    config = micro_config(tmp_path, start)
    train(config)
    assert has_micro_steps(config.out)
    words = ["solve", "--tasks", config.data[0], "--model", str(config.out), "--out", str(tmp_path / "run")]
    assert main([*words, "--generate.n-views", "2", "--recipe", "auto"]) == 3  # it has learnt nothing in three steps
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["counts"]["reasons"] if "counts" in report else report
    assert main(["convert-weights", str(config.out), "--out", str(tmp_path / "plain")]) == 0
    ids = torch.arange(12)[None]
    options: Any = SolveConfig("unread", Path("unwritten"), model=config.out, precision="fp32", device="cpu")
    inside, plain = load_micro(config.out, options).network.base, load_model(tmp_path / "plain", "fp32", "cpu").network
    with torch.no_grad():
        found: Any = plain(input_ids=ids).logits
        assert torch.equal(inside(input_ids=ids).logits, found)
    with pytest.raises(ModelError, match="found no micro-step model"):
        main_raises(["convert-weights", str(tmp_path / "plain"), "--out", str(tmp_path / "again")])


def test_it_is_judged_as_one_model_and_its_parts_where_they_are_named(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_in_process(monkeypatch)
    train(micro_config(tmp_path, start, steps=1))
    (whole,) = find_model_folders((tmp_path / "out",))
    assert whole.folder == tmp_path / "out" and has_micro_steps(whole.folder)
    (base,) = find_model_folders((tmp_path / "out" / "base",))
    assert base.folder.name == "base" and base.digest != whole.digest
    reference = next((tmp_path / "out" / "reference").glob("*.safetensors"))
    reference.write_bytes(reference.read_bytes()[:-1] + b"!")
    assert find_model_folders((tmp_path / "out",))[0].digest != whole.digest
    words = ["evaluate", str(tmp_path / "out"), "--tasks", "arc1:training", "--select", "shortest:1"]
    options = ["--recipes", "none", "--generate.n-views", "1", "--generate.max-new-tokens", "8", "--precision", "fp32"]
    assert main([*words, "--out", str(tmp_path / "judged"), *options]) == 0
    assert [*json.loads((tmp_path / "judged" / "evaluation.json").read_text())["summary"]] == ["out/none"]


def main_raises(words: list[str]) -> None:
    from arc_kaggle.cli import run_command

    run_command(words[0], words[1:])


@pytest.mark.parametrize("changes", [{"cut_vocabulary": True}, {"batching": "packed"}, {"ema": 0.9}, {"start": None}])
def test_what_does_not_go_with_micro_steps_is_refused(tmp_path: Path, start: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^option (micro|start): found"):
        replace(micro_config(tmp_path, start), **changes)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"recipe": "lora"}, "found a micro-step model with tune"),
        ({"engine": "vllm"}, "found vllm, which lacks micro steps; choose --engine micro"),
        ({"engine": "hf"}, "found hf, which lacks micro steps; choose --engine micro"),
        ({"tuner": "unsloth"}, "found unsloth, which lacks micro steps"),
        ({"cut_vocabulary": True}, "found micro, which lacks cut vocabulary"),
        ({"generate": GenerateConfig(p_min=0.1)}, "found micro, which lacks search"),
        ({"generate": GenerateConfig(decoding=Decoding(beams=2)), "engine": "micro"}, "found micro, which lacks beams"),
        ({"engine": "micro", "model": Path("plain")}, "found micro for plain, which has no micro steps"),
    ],
)
def test_what_the_engine_lacks_is_refused_before_the_run(tmp_path: Path, options: Any, refusal: str) -> None:
    (tmp_path / "micro.json").write_text("{}")
    asked = {"model": tmp_path, "recipe": "none", **options}
    with pytest.raises(ArcKaggleError, match=rf"^option \w+: {refusal}"):
        SolveConfig("unread", Path("unwritten"), **asked)


def test_auto_is_micro_for_such_a_model_and_workers_are_as_many_as_its_parts_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arc_kaggle.run.launch.start.n_threads", lambda: 3)
    (tmp_path / "base").mkdir()
    for name in ("micro.json", "micro.safetensors", "base/model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    choice = settle(SolveConfig("unread", Path("unwritten"), model=tmp_path, recipe="none", device="cpu"))
    assert str(choice) == "engine micro: the model has micro steps"
    assert count_workers(choice.config) == 3
    with (tmp_path / "base" / "model.safetensors").open("r+b") as file:
        file.truncate(SMALL_BYTES)  # of nothing
    assert count_workers(choice.config) == 1
