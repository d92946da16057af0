"""The real language model by vLLM and Unsloth beside hf and peft: equal texts in fp32, equal losses at the start."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.vllm import VLLMEngine
from arc_kaggle.models.loading import load_model
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tuner import InProcessTuner

if "ARC_KAGGLE_REAL_MODEL" not in os.environ:
    pytest.skip("make test-real runs it, on a model that it downloads", allow_module_level=True)

FOLDER = Path(os.environ["ARC_KAGGLE_REAL_MODEL"])
(TASK,) = load_tasks("arc1:training", "shortest:1")
TUNE = TuneConfig(steps=2, max_tokens=1024, lora=LoraConfig(8), optim=OptimConfig(learning_rate=1e-3))
NEVER = Deadline.never()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained one: it has learnt something of a task."""
    folder = tmp_path_factory.mktemp("adapters")
    tuner = InProcessTuner(load_model(FOLDER, "fp32", "cpu"), TUNE)
    examples = tuning_examples(TASK, tuner.model.notation, TUNE, np.random.default_rng(0))
    assert tuner.tune(examples, 0, NEVER).tuned
    tuner.weights.save(folder)
    return folder


def texts(config: SolveConfig, tuned: bool) -> list[str]:
    method, found = load_method(config), dict[int, str]()
    if tuned:
        assert tune_task(TASK, method, config, NEVER).tuned
    views = range(config.generate.n_views)
    answer_views([TASK], views, method, config, NEVER, lambda each: found.update({each.view: each.text}))
    if isinstance(method.engine, VLLMEngine):
        method.engine.close()
    return [found[view] for view in views]


@pytest.mark.skipif(not find_spec("vllm"), reason="vLLM is not installed here")
def test_vllm_answers_with_the_texts_of_hf(adapter: Path, tmp_path: Path) -> None:
    """As the pretrained adapter has it, and tuned on from there; the vocabulary is cut."""
    generate, vllm = GenerateConfig(n_views=2, max_prompt_tokens=2048), VLLMConfig(cache_gb=1, eager=True)
    where = {"model": FOLDER, "adapter": adapter, "precision": "fp32", "device": "cpu", "cut_vocabulary": True}
    config = SolveConfig("arc1:training", tmp_path, tune=TUNE, generate=generate, vllm=vllm, **where)  # type: ignore[arg-type]
    untuned = replace(config, tune=TuneConfig(weights="none"))
    for asked, tuned in ((untuned, False), (config, True)):
        found = {engine: texts(replace(asked, engine=engine), tuned) for engine in ("hf", "vllm")}
        assert found["hf"] == found["vllm"] and all(found["hf"])


@pytest.mark.skipif(not find_spec("unsloth"), reason="Unsloth is not installed here")
@pytest.mark.filterwarnings("default")  # Unsloth's own, on import and on loading
def test_unsloth_begins_with_the_losses_of_peft(adapter: Path) -> None:
    """Fresh, and going on from the pretrained adapter, which begins lower."""
    from arc_kaggle.tuning.unsloth import UnslothTuner

    firsts = []
    for pretrained in (None, adapter):
        tuners = [
            InProcessTuner(load_model(FOLDER, "fp32", "cpu"), TUNE, pretrained),
            UnslothTuner(FOLDER, load_model(FOLDER, "fp32", "cpu"), TUNE, pretrained),
        ]
        losses = []
        for tuner in tuners:
            examples = tuning_examples(TASK, tuner.model.notation, TUNE, np.random.default_rng(1))
            losses.append(tuner.tune(examples, 0, NEVER).first_loss)
        assert losses[0] == pytest.approx(losses[1], abs=2e-3)
        firsts.append(losses[0])
    assert firsts[1] < firsts[0]


torch.set_num_threads(len(os.sched_getaffinity(0)))
