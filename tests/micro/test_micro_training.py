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
from processes import DONE
from safetensors.torch import load_file
from train_data import rows_of, tiny_config

from arc_kaggle.answering.candidates import Prediction, read_prediction_folder
from arc_kaggle.cli import main
from arc_kaggle.config.answer import Decoding, GenerateConfig
from arc_kaggle.config.micro import MicroConfig, has_micro_steps
from arc_kaggle.config.model import SMALL_BYTES
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.errors import ArcKaggleError, ConfigError, ModelError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.micro.folder import load_micro
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import load_model, save_model
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.models.weight_files import load_network
from arc_kaggle.run.launch.start import count_workers
from arc_kaggle.run.worker.method import Method, answer_views
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.text.encoders import DECODE_REASONS
from arc_kaggle.training.session import train


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return save_lively(tmp_path / "start")


def save_lively(folder: Path, kind: str = "llama", recipe: str = "none") -> Path:
    """A model whose large random weights make it sure of some tokens, so that segments have several of them."""
    model = (new_grid_model if kind == "grid" else new_model)(32, 1, 3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    save_model(model, folder, recipe, {})
    return folder


def micro_config(tmp_path: Path, start: Path, **changes: Any) -> Any:
    micro = MicroConfig("entropy", threshold=2.3, most_tokens=4, stop=0.3)
    return tiny_config(tmp_path, start=start, micro=micro, **changes)


def test_the_first_stage_leaves_the_base_bit_for_bit(tmp_path: Path, start: Path) -> None:
    stages = {"first_stage_steps": 2, "first_stage_modules": ("merger", "micro"), "first_stage_learning_rate": 1e-2}
    config = micro_config(tmp_path, start, steps=3, save_every=2, optim=OptimConfig(learning_rate=1e-2), **stages)
    train(config)
    first = load_model(config.out / "checkpoints" / "step-00000002" / "base", "fp32", "cpu")
    assert weights_of(first.network) == weights_of(load_model(start, "fp32", "cpu").network)
    assert weights_of(load_model(config.out / "base", "fp32", "cpu").network) != weights_of(first.network)
    assert weights_of(load_network(config.out / "reference", torch.float32)) == weights_of(first.network)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_first_stage_alone_never_moves_the_base(tmp_path: Path, start: Path, steps: int) -> None:
    """With one step there is no warm-up: everything would take it at the whole learning rate."""
    stage = {"first_stage_steps": steps, "first_stage_modules": ("merger", "micro"), "save_every": 2}
    config = micro_config(tmp_path, start, steps=steps, optim=OptimConfig(learning_rate=1e-2), **stage)
    train(config)
    made: Any = load_micro(config.out, options_of(config.out)).network
    assert weights_of(made.base) == weights_of(load_model(start, "fp32", "cpu").network)
    norms = {name: tensor for name, tensor in load_file(config.out / "micro.safetensors").items() if "norm" in name}
    assert len(norms) == 4 and not any(torch.equal(tensor, torch.ones_like(tensor)) for tensor in norms.values())


def options_of(folder: Path) -> SolveConfig:
    return SolveConfig("unread", Path("unwritten"), model=folder, precision="fp32", device="cpu")


def test_what_a_micro_step_model_has_trained_cuts_the_texts_of_the_next_one(tmp_path: Path, start: Path) -> None:
    """Refinement: the base of the first is the reference of the second, whatever that starts from."""
    config = micro_config(tmp_path, start, optim=OptimConfig(learning_rate=1e-2))
    train(config)
    refined = replace(config, out=tmp_path / "refined", micro=replace(config.micro, reference=config.out))
    train(refined)
    parts = [refined.out / "reference", config.out / "base", start]
    reference, trained, first = (weights_of(load_network(part, torch.float32)) for part in parts)
    assert reference == trained != first
    losses = [rows_of(each)[0]["validation_loss"] for each in (config, refined)]
    assert losses[0] != losses[1]  # before the first step, when all else is equal: texts are cut otherwise


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
def test_a_run_answers_what_the_engine_decodes(
    tmp_path: Path, start: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every view, word for word. The first kind in this process, the second as every run is, with its own worker."""
    if kind == "llama":
        workers_in_process(monkeypatch)
    else:
        start = save_lively(tmp_path / "grid", kind)
    config = micro_config(tmp_path, start, steps=30, optim=OptimConfig(learning_rate=1e-2))
    train(config)
    assert has_micro_steps(config.out)
    words = ["solve", "--tasks", config.data[0], "--model", str(config.out), "--out", str(tmp_path / "run")]
    words += ["--generate.n-views", "2", "--recipe", "auto", "--device", "cpu", "--precision", "fp32"]
    assert main(words) in DONE
    asked = SolveConfig(config.data[0], tmp_path / "run", model=config.out, precision="fp32", device="cpu")
    asked = replace(asked, generate=GenerateConfig(n_views=2))
    model = load_micro(config.out, asked)
    method = Method(engine := MicroEngine(model), None, model.notation)
    wanted: list[Prediction] = []
    tasks = load_tasks(asked.tasks)
    answer_views(tasks, range(2), method, asked, Deadline.never(), wanted.append)
    found = [each for own in read_prediction_folder(tmp_path / "run" / "predictions").values() for each in own]
    assert len(found) == 2 * len(tasks)
    for one, other in zip(*(sorted(some, key=lambda each: each.key) for some in (found, wanted)), strict=True):
        assert (one.key, one.text, one.outcome) == (other.key, other.text, other.outcome)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
    assert {each.outcome for each in found} <= {"answered", "no_end", *DECODE_REASONS} and all(e.text for e in found)
    assert engine.counts.prompt_positions < 0.9 * engine.counts.prompt_tokens


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_its_base_is_converted_with_the_recipe_that_it_had(tmp_path: Path, kind: str) -> None:
    config = micro_config(tmp_path, save_lively(tmp_path / "start", kind, "arc24"))
    train(config)
    assert main(["convert-weights", str(config.out), "--out", str(tmp_path / "plain")]) == 0
    cards = [read_card(folder) for folder in (config.out, config.out / "base", tmp_path / "plain")]
    assert [card and card.recipe for card in cards] == ["none", "arc24", "arc24"]
    ids = torch.arange(12)[None]
    inside: Any = load_micro(config.out, options_of(config.out)).network
    plain = load_model(tmp_path / "plain", "fp32", "cpu").network
    with torch.no_grad():
        found: Any = plain(input_ids=ids).logits
        assert torch.equal(inside.base(input_ids=ids).logits, found)
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cut_vocabulary": True}, "micro: found it with cut_vocabulary"),
        ({"batching": "packed"}, "micro: found it with packed batches"),
        ({"ema": 0.9}, "micro: found it with ema"),
        ({"start": None}, "micro: found it for a new model"),
        ({"compile": True}, "micro: found it with compile"),
        ({"loss": "everything"}, "micro: found it with loss everything"),
        ({"data": ("prompts:set.jsonl",)}, "micro: found it with prompts as data"),
    ],
)
def test_what_does_not_go_with_micro_steps_is_refused(
    tmp_path: Path, start: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^option {said}, expected"):
        replace(micro_config(tmp_path, start), **changes)


@pytest.mark.parametrize(
    "words",
    [
        ["preflight", "--model", "MICRO", "--recipe", "none"],
        ["evaluate-prompts", "MICRO", "--data", "set.jsonl", "--out", "out"],
        ["train", "--start", "MICRO", "--out", "out", "--data", "data.json", "--against", "against.json"],
    ],
)
def test_commands_for_plain_models_name_what_they_found(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_config(tmp_path)  # which writes data
    Path("set.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    Path("MICRO").mkdir()
    Path("MICRO/micro.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"^model folder MICRO: found a micro-step model, expected a plain one; take its base, "
    ):
        main_raises(words)


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
