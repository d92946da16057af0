"""Fine-tuning by Unsloth beside that by peft, from the same start on the same examples, in fp32 on a CPU."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import logits_of, random_prompts, weights_of

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import EVERYWHERE, LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.vllm.adapters import check_for_vllm
from arc_kaggle.errors import EngineError
from arc_kaggle.models.loading import LoadedModel, load_model, save_model
from arc_kaggle.models.new_model import new_model
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner
from arc_kaggle.tuning.unsloth import UnslothOptimizer, UnslothTuner

if not find_spec("unsloth"):
    pytest.skip("Unsloth is not installed here; make test-backends runs it where it is", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")  # Unsloth's own, on import and on loading

STEADY = OptimConfig(learning_rate=0.01, schedule="constant_with_warmup", warmup_fraction=0)
CONFIG = TuneConfig(steps=12, batch_size=2, max_tokens=3000, optim=STEADY, lora=LoraConfig(8))
NEVER = Deadline.never()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_model(new_model(64, 2, 0), path, "lora", {})
    return path


def load(folder: Path) -> LoadedModel:
    return load_model(folder, "fp32", "cpu")


def examples(lengths: list[int], n_trained: int = 0) -> Iterator[Example]:
    """Random ids of these lengths, over and over; of each the last ids are trained, or all where 0."""
    for ids in [text for round_ in range(50) for text in random_prompts(lengths, seed=round_)]:
        labels = ids.copy()
        labels[: len(ids) - n_trained if n_trained else 0] = -100
        yield Example(ids, labels)


def both(folder: Path, config: TuneConfig = CONFIG) -> tuple[InProcessTuner, UnslothTuner]:
    return InProcessTuner(load(folder), config), UnslothTuner(folder, load(folder), config)


def losses(tuner: InProcessTuner, given: Iterator[Example]) -> list[float]:
    found: list[float] = []
    tuner.weights.reset(7)
    tuner._train(given, found, tuner.config, NEVER)
    return found


def test_losses_are_those_of_peft_side_by_side(folder: Path) -> None:
    """Batches with padding among them. The second loop begins where the first did."""
    peft, unsloth = both(folder)
    lengths = [30, 64, 17, 100, 45]
    pairs = list(zip(losses(peft, examples(lengths)), losses(unsloth, examples(lengths)), strict=True))
    print("loss of each step, peft and unsloth:", [(round(one, 5), round(other, 5)) for one, other in pairs])
    assert len(pairs) == CONFIG.steps
    np.testing.assert_allclose(*np.array(pairs).T, atol=2e-4)
    assert pairs[-1][1] < pairs[0][1]


def test_a_prompt_of_over_2048_tokens_keeps_all_of_them(folder: Path) -> None:
    """Only its last tokens are trained, which a cut to Unsloth's default length would take away."""
    peft, unsloth = both(folder, replace(CONFIG, steps=2, batch_size=1))
    one, other = losses(peft, examples([2900], n_trained=20)), losses(unsloth, examples([2900], n_trained=20))
    np.testing.assert_allclose(one, other, atol=2e-4)
    changed = losses(unsloth, (Example(np.append(each.ids[1:], 3), each.labels) for each in examples([2900], 20)))
    assert abs(changed[0] - other[0]) > 1e-3


def test_an_adapter_of_one_is_an_adapter_of_the_other_and_of_vllm(folder: Path, tmp_path: Path) -> None:
    peft, unsloth = both(folder)
    report = unsloth.tune(examples([30, 50]), 3, NEVER)
    assert report.text == "tuned"
    unsloth.save(tmp_path / "adapter")
    check_for_vllm(tmp_path / "adapter", max_rank=8)
    peft.weights.load(tmp_path / "adapter")
    tuned = logits_of(unsloth.model.network)
    assert torch.allclose(logits_of(peft.model.network), tuned, atol=1e-5)
    peft.weights.save(tmp_path)
    unsloth.reset()
    assert not torch.allclose(logits_of(unsloth.model.network), tuned, atol=1e-2)
    unsloth.weights.load(tmp_path)
    assert torch.allclose(logits_of(unsloth.model.network), tuned, atol=1e-5)


def test_the_base_is_left_as_it_is(folder: Path) -> None:
    tuner = UnslothTuner(folder, load(folder), CONFIG)
    before = {name: value for name, value in weights_of(tuner.model.network).items() if "lora_" not in name}
    tuner.tune(examples([30]), 3, NEVER)
    after = {name: value for name, value in weights_of(tuner.model.network).items() if "lora_" not in name}
    assert before == after
    tuner.reset()
    assert torch.allclose(logits_of(tuner.model.network), logits_of(load(folder).network), atol=1e-6)


def test_where_it_goes_wrong_the_base_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = UnslothTuner(folder, load(folder), CONFIG)
    with monkeypatch.context() as within:
        within.setattr(UnslothOptimizer, "_backward", lambda self, batches: float("nan"))
        assert tuner.tune(repeat(next(examples([30]))), 3, NEVER).text.startswith("base: loss nan")
    assert tuner.tune(examples([30]), 3, Deadline(0, lambda: 1)).text == "base: no time for a single step"


def test_nothing_is_told_to_anyone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    tuner = UnslothTuner(folder, load(folder), CONFIG)
    tuner.tune(examples([30]), 3, NEVER)
    assert called == []


def test_embeddings_and_head_are_refused(folder: Path) -> None:
    config = replace(CONFIG, lora=LoraConfig(8, modules=EVERYWHERE))
    with pytest.raises(EngineError, match=r"^option tuner: found unsloth and tune.lora.modules embed_tokens, lm_head"):
        UnslothTuner(folder, load(folder), config)


def test_the_module_names_are_those_of_peft(folder: Path) -> None:
    peft, unsloth = both(folder)
    names = [{name for name in weights_of(tuner.model.network) if "lora_" in name} for tuner in (peft, unsloth)]
    assert names[0] == names[1] != set()
    assert isinstance(unsloth.weights, LoraAdapter)


def test_a_run_comes_to_the_same_with_either_tuner(folder: Path, tmp_path: Path) -> None:
    grids = [as_grid([[1, 2], [i, 3]]) for i in range(3)]
    task = Task("copy", tuple(Pair(grid, grid) for grid in grids), (Pair(grids[0], None),))
    options: Any = {"model": folder, "precision": "fp32", "device": "cpu", "tune": replace(CONFIG, steps=4)}
    found = []
    for tuner in ("peft", "unsloth"):
        config = SolveConfig("arc1:training", tmp_path, tuner=tuner, **options)
        kept = list[Prediction]()
        method = load_method(config)
        assert tune_task(task, method, config, NEVER).text == "tuned"
        answer_views([task], range(config.generate.n_views), method, config, NEVER, kept.append)
        found.append([(each.key, each.text) for each in kept])
    assert found[0] == found[1]
