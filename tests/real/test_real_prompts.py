"""Prompts with completions on the real language model: labels by its chat template, training and an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prompt_models import write_set

from arc_kaggle.cli import main
from arc_kaggle.models.loading import load_tokenizer
from arc_kaggle.tasks.prompt_sets import PromptItem
from arc_kaggle.text.asking import Asking
from arc_kaggle.text.tokens import NOT_TRAINED

if "ARC_KAGGLE_REAL_MODEL" not in os.environ:
    pytest.skip("make test-real runs it, on a model that it downloads", allow_module_level=True)

FOLDER = Path(os.environ["ARC_KAGGLE_REAL_MODEL"])


def test_completion_labels_hold_on_the_real_chat_template() -> None:
    asking = Asking(load_tokenizer(FOLDER), chat=True)
    item = PromptItem("a", (("user", "What is 2+2?"),), "It is 4.")
    example = asking.example(item)
    trained = example.labels != NOT_TRAINED
    assert asking.tokenizer.decode(example.labels[trained].tolist()) == "It is 4.<|im_end|>"
    before = asking.tokenizer.decode(example.ids[~trained].tolist())
    assert before.endswith("<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n")
    assert example.ids[-1] == asking.end_id(item) == asking.tokenizer.eos_token_id


def test_an_answer_is_learnt_by_heart(tmp_path: Path) -> None:
    data = write_set(tmp_path / "set.jsonl", [{"prompt": "The word?", "completion": "Zanzibar, of course"}])
    words = ["train", "--start", str(FOLDER), "--out", str(tmp_path / "out"), "--data", f"prompts:{data}", "--chat"]
    sizes = ["--tokens-per-batch", "64", "--bucket", "32", "--max-tokens", "64", "--steps", "12", "--hold-out", "0"]
    lora = ["--weights", "lora", "--lora.rank", "8", "--optim.learning-rate", "2e-3"]
    assert main([*words, *sizes, *lora]) == 0
    ask = ["evaluate-prompts", str(FOLDER), str(tmp_path / "out"), "--base", str(FOLDER), "--data", str(data), "--chat"]
    assert main([*ask, "--out", str(tmp_path / "judged"), "--max-new-tokens", "16"]) == 0
    results = json.loads((tmp_path / "judged" / "summary.json").read_text())["results"]
    base, tuned = results.values()
    assert (base["exact"], tuned["exact"]) == (0.0, 1.0)
