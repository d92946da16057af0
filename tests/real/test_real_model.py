"""A real language model, SmolLM2-135M-Instruct, through everything that a run does: `make test-real`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arc_kaggle.cli import main
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.model import ModelOptions
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig, TuneConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import PromptError
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.models.vocabulary_cut import cut_vocabulary
from arc_kaggle.run.worker.main import load_method
from arc_kaggle.run.worker.method import answer_views, tune_task
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import tokenize
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tuner import InProcessTuner

if "ARC_KAGGLE_REAL_MODEL" not in os.environ:
    pytest.skip("make test-real runs it, on a model that it downloads", allow_module_level=True)

FOLDER = Path(os.environ["ARC_KAGGLE_REAL_MODEL"])
(TASK,) = load_tasks("arc1:training", "shortest:1")
LORA = LoraConfig(rank=8, alpha=16)
TUNE = TuneConfig(steps=2, lora=LORA, max_tokens=1024, optim=OptimConfig(learning_rate=5e-4))
NEVER = Deadline.never()
torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(FOLDER, "fp32", "cpu")


@torch.inference_mode()
def logits_of(model: LoadedModel, network: Any = None) -> torch.Tensor:
    """Logits (time, vocab) of the task's prompt."""
    ids = tokenize(query_prompt(next(TASK.queries), model.notation), model.notation.tokenizer).ids
    found: torch.Tensor = (network or model.network)(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits
    return found[0]


def answers_of(config: SolveConfig, tuned: bool) -> list[str]:
    """Texts of the task's views, answered as `solve` does it in its worker."""
    method, found = load_method(config), list[str]()
    if tuned:
        assert tune_task(TASK, method, config, NEVER).tuned
    views = range(config.generate.n_views)
    answer_views([TASK], views, method, config, NEVER, lambda prediction: found.append(prediction.text))
    return found


def options(out: Path, **changes: Any) -> SolveConfig:
    given = {"model": FOLDER, "precision": "fp32", "device": "cpu", "engine": "hf", "tune": TUNE, **changes}
    return SolveConfig("arc1:training", out, generate=GenerateConfig(n_views=2), **given)


def test_the_folder_says_how_it_is_used(model: LoadedModel) -> None:
    """The end token ends answers; it does not pad, and the chat template is the model's own."""
    ids = [model.tokenizer.bos_token_id, model.end_id, model.pad_id]
    assert model.tokenizer.convert_ids_to_tokens(ids) == ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    assert model.network.config.eos_token_id == model.network.generation_config.eos_token_id == model.end_id
    assert model.notation.format.answer_end.startswith("<|im_end|>") and model.encoder.spec == "shape+rows+minimal"
    assert (sum(p.numel() for p in model.network.parameters()), model.network.config.vocab_size) == (134515008, 49152)
    assert "apache-2.0" in (FOLDER / "README.md").read_text()


def test_the_weights_are_sound(model: LoadedModel) -> None:
    """It goes on with a well-known sentence."""
    ids = model.tokenizer.encode("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        found = model.network.generate(ids, max_new_tokens=2, do_sample=False, attention_mask=torch.ones_like(ids))
    assert "Paris" in model.tokenizer.decode(found[0])


@pytest.mark.parametrize("prompt", ["plain", "arc24", "arc24-no-system", "architects", "nvarc", "chat"])
@pytest.mark.parametrize("encoder", ["minimal", "shape+rows+minimal", "separated('|')", "repeat(3)", "colours"])
def test_every_preset_is_taken_or_refused_with_a_sentence(prompt: str, encoder: str) -> None:
    from transformers import AutoTokenizer

    from arc_kaggle.models.loading import pick_preset
    from arc_kaggle.text.tokenizer_checks import check_notation

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    try:
        notation = pick_preset(FOLDER, tokenizer, prompt, encoder).notation(tokenizer)
        check_notation(notation)
    except PromptError as error:
        assert "expected" in str(error)
        assert (prompt, encoder) not in {("chat", "minimal"), ("arc24", "shape+rows+minimal"), ("nvarc", "minimal")}
        return
    grid = TASK.train[0].output
    assert grid is not None
    text = notation.tokenizer.decode(notation.completion_ids(grid).tolist())
    np.testing.assert_array_equal(notation.encoder.decode(notation.answer_text(text)), grid)


def test_the_commands_that_read_a_tokenizer_read_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--tokenizer", str(FOLDER), "--prompt", "chat", "--max-tokens", "8192"]) == 0
    assert "400" in capsys.readouterr().out
    main(["symbols", "--tokenizer", str(FOLDER)])
    told = capsys.readouterr()
    assert "Traceback" not in told.err and (told.out or "expected" in told.err)


def test_a_cut_vocabulary_changes_no_logit(model: LoadedModel) -> None:
    whole = logits_of(model)
    cut = cut_vocabulary(load_model(FOLDER, "fp32", "cpu"))
    kept = list(cut.notation.tokenizer.kept)  # type: ignore[attr-defined]
    assert len(kept) < 300
    torch.testing.assert_close(logits_of(cut), whole[:, kept], rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("default")  # of bitsandbytes
def test_four_bits_answer_nearly_alike_and_can_be_tuned(model: LoadedModel) -> None:
    small = load_model(FOLDER, "fp32", "cpu", four_bit=True)
    alike = torch.nn.functional.cosine_similarity(logits_of(small), logits_of(model), dim=-1)
    assert 0.9 < float(alike.mean()) < 0.99999
    tuner = InProcessTuner(small, TUNE)
    make = partial(tuning_examples, TASK, small.notation, TUNE, np.random.default_rng(0))
    report = tuner.tune(make(), 0, NEVER)
    assert report.tuned and report.steps == 2


def test_a_tuned_task_is_kept_merged_and_loaded_again(tmp_path: Path, model: LoadedModel) -> None:
    """Save, merge, reload: the merged folder has the logits of the tuned model, and so has the adapter on a new one."""
    config = options(tmp_path)
    method = load_method(config)
    report = tune_task(TASK, method, config, NEVER)
    assert report.tuned and report.last_loss is not None and report.first_loss is not None
    assert report.last_loss < report.first_loss
    assert method.tuner is not None
    method.tuner.save(tmp_path / "adapter")
    tuned = logits_of(model, method.tuner.model.network)  # type: ignore[attr-defined]
    assert not torch.allclose(tuned, logits_of(model), atol=0.05)
    assert main(["merge", str(FOLDER), str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]) == 0
    torch.testing.assert_close(logits_of(load_model(tmp_path / "merged", "fp32", "cpu")), tuned, rtol=1e-3, atol=1e-2)
    again = load_method(options(tmp_path, adapter=tmp_path / "adapter", tune=TuneConfig(weights="none")))
    assert isinstance(again.engine, HFEngine)
    torch.testing.assert_close(logits_of(model, again.engine.model.network), tuned, rtol=1e-4, atol=1e-3)


def test_training_writes_an_adapter_that_a_run_goes_on_from(tmp_path: Path) -> None:
    words = ["--start", str(FOLDER), "--weights", "lora", "--lora.rank", "4", "--steps", "2", "--recipe", "lora"]
    sizes = ["--tokens-per-batch", "1024", "--max-tokens", "1024", "--first-max-tokens", "1024"]
    checks = ["--validation-puzzles", "0", "--drop-leaks", "--max-pairs", "2"]
    assert main(["train", "--out", str(tmp_path / "mine"), *words, *sizes, *checks]) == 0
    config = ModelOptions(model=FOLDER, adapter=tmp_path / "mine")
    assert (config.tune.lora.rank, config.card_folder) == (4, tmp_path / "mine")
    assert answers_of(options(tmp_path, adapter=tmp_path / "mine", tune=TuneConfig(weights="none")), tuned=False)


def test_preflight_says_that_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", "lora", "--n-tasks", "1", "--n-run-tasks", "1", "--precision", "fp32"]
    sizes = ["--tune.max-tokens", "1024", "--generate.tokens-per-batch", "8192", "--generate.max-prompt-tokens", "2048"]
    main(["preflight", "--model", str(FOLDER), *words, *sizes])
    told = capsys.readouterr().out
    assert "token a cell in shape+rows+minimal, stop token '<|im_end|>'" in told
    assert [line for line in told.splitlines() if line.startswith("FAILED") and " memory" in line] == []
