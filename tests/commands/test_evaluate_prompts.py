"""`train` on prompts, then `evaluate-prompts`: every score, on a tiny model that has learnt its answers by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prompt_models import chat_tokenizer, write_set, write_text_model

from arc_kaggle.cli import main
from arc_kaggle.config.prompts import PromptEvaluation
from arc_kaggle.errors import ConfigError, EngineError, ModelError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.evaluation.prompts.judge import make_text_engine
from arc_kaggle.evaluation.prompts.scores import load_embeddings, make_score
from arc_kaggle.models.loading import save_model
from arc_kaggle.models.new_model import new_grid_model
from arc_kaggle.tasks.prompt_sets import PromptItem

CODE = "def f(n):\n    return n + 1"
LINES: list[dict[str, Any]] = [
    {"id": "sum", "prompt": "2+2?", "completion": "it is\n#### 4", "choices": ["it is\n#### 4", "it is\n#### 5"]},
    {"id": "difference", "prompt": "9-2?", "completion": "so\n#### 7", "choices": ["so\n#### 8", "so\n#### 7"]},
]
TESTED = [{"id": "next", "prompt": "Write f.", "completion": CODE, "tests": "assert f(1) == 2"}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, and a model and an adapter that have learnt the sets by heart."""
    root = tmp_path_factory.mktemp("prompts")
    data = write_set(root / "set.jsonl", [*LINES, *TESTED])
    base = write_text_model(root / "base")
    learn = ["--start", str(base), "--data", f"prompts:{data}", "--hold-out", "0", "--tokens-per-batch", "128"]
    learn += ["--bucket", "16", "--max-tokens", "64", "--precision", "fp32", "--save-every", "1000"]
    rate = ["--optim.learning-rate", "5e-3"]
    assert main(["train", "--out", str(root / "learnt"), *learn, "--steps", "80", *rate]) == 0
    adapted = ["train", "--out", str(root / "adapter"), *learn, "--steps", "5", "--weights", "lora"]
    assert main(adapted) == 0
    write_set(root / "words.jsonl", LINES)
    write_set(root / "code.jsonl", TESTED)
    return {name: root / name for name in ("base", "learnt", "adapter", "words.jsonl", "code.jsonl", "set.jsonl")}


def test_vllm_refuses_a_gridlm_by_name(tmp_path: Path) -> None:
    save_model(new_grid_model(32, 1, 0), tmp_path / "grid", "box", {})
    (model,) = find_model_folders([tmp_path / "grid"])
    config = PromptEvaluation((tmp_path / "grid",), tmp_path / "set.jsonl", tmp_path / "out", engine="vllm")
    with pytest.raises(EngineError, match="found vllm, which lacks grid positions"):
        make_text_engine(model, 2, 10, config)


def summary_of(folders: dict[str, Path], out: Path, models: list[str], data: str, *options: str) -> dict[str, Any]:
    words = ["evaluate-prompts", *(str(folders[name]) for name in models), "--data", str(folders[data])]
    words += ["--out", str(out), "--max-new-tokens", "40", "--precision", "fp32", *options]
    assert main(words) == 0
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    found["results"] = {name.partition(".")[0]: result for name, result in found["results"].items()}
    return found


@pytest.mark.parametrize(
    ("score", "data"),
    [("exact", "words.jsonl"), ("number", "words.jsonl"), ("choice", "words.jsonl"), ("code", "code.jsonl")],
)
def test_what_was_learnt_is_right(folders: dict[str, Path], tmp_path: Path, score: str, data: str) -> None:
    summary = summary_of(folders, tmp_path, ["base", "learnt"], data, "--score", score)
    learnt = summary["results"]["learnt"]
    assert learnt[score] == 1.0 and learnt["invalid"] == learnt["cut_off"] == 0
    if score != "choice":
        assert summary["results"]["base"][score] == 0.0
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["model"].partition(".")[0] for line in lines] == [
        m for m in ("base", "learnt", "combined") for _ in range(summary["n"])
    ]
    assert {line["points"] for line in lines if line["model"].startswith("learnt")} == {1.0}


def test_invalid_and_cut_off_answers_are_counted_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    cut = summary_of(folders, tmp_path / "a", ["learnt"], "words.jsonl", "--score", "number", "--max-new-tokens", "2")
    assert (cut["results"]["learnt"]["invalid"], cut["results"]["learnt"]["cut_off"]) == (2, 2)
    other = summary_of(folders, tmp_path / "b", ["learnt"], "words.jsonl", "--extract", "never")
    assert (other["results"]["learnt"]["invalid"], other["results"]["learnt"]["cut_off"]) == (2, 0)


def test_an_adapter_answers_on_its_base(folders: dict[str, Path], tmp_path: Path) -> None:
    summary_of(
        folders, tmp_path, ["base", "adapter"], "words.jsonl", "--base", str(folders["base"]), "--score", "choice"
    )
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    base, adapter = ([each["log_prob"] for each in line["predictions"]] for line in (lines[0], lines[2]))
    assert not np.allclose(base, adapter, atol=1e-3)


def test_samples_differ_and_are_combined(folders: dict[str, Path], tmp_path: Path) -> None:
    options = ["--predictions", "3", "--temperature", "1", "--combine", "join", "--extract", r"\S+"]
    summary_of(folders, tmp_path, ["base"], "words.jsonl", *options)
    line = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])
    assert len({each["text"] for each in line["predictions"]}) == 3


def test_examples_come_from_another_file(folders: dict[str, Path], tmp_path: Path) -> None:
    options = ["--shots", "1", "--shots-from", str(folders["code.jsonl"])]
    shot = summary_of(folders, tmp_path, ["learnt"], "words.jsonl", *options)
    assert shot["results"]["learnt"]["exact"] < 1.0  # it was never trained with examples before a prompt


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 1}, "shots: found 1 from None"),
        ({"shots": 1, "shots_from": Path("set.jsonl")}, "which is judged"),
        ({"score": "similarity"}, "embeddings: found None with score similarity"),
        ({"predictions": 2}, "found 2 at temperature 0"),
        ({"models": ()}, "models: found none"),
        ({"four_bit": True, "engine": "vllm"}, "four_bit: found engine vllm"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PromptEvaluation(**{"models": (Path("m"),), "data": Path("set.jsonl"), "out": Path("out"), **changes})


def test_items_that_cannot_be_judged_so_are_named(folders: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    words = ["evaluate-prompts", str(folders["base"]), "--data", str(folders["code.jsonl"]), "--out", str(tmp_path)]
    assert main([*words, "--score", "choice"]) == 2
    assert "item next and 0 others have no choices" in capsys.readouterr().err


def write_embeddings(folder: Path) -> Path:
    """A sentence-transformers folder with a random model of one layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    tokenizer = chat_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "inner")
    tokenizer.save_pretrained(folder / "inner")
    inner = Transformer(str(folder / "inner"))
    SentenceTransformer(modules=[inner, Pooling(32)], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_similarity_is_the_cubed_cosine(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path)
    config = PromptEvaluation((Path("m"),), Path("s"), Path("o"), score="similarity", embeddings=folder)
    items = [PromptItem(str(i), (), "the rows of the grid") for i in range(3)]
    same, other, invalid = make_score(config)(items, ["the rows of the grid", "task", None])
    embed = load_embeddings(folder)
    (a,), (b,) = embed(["task"]), embed(["the rows of the grid"])
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert same == pytest.approx(1, abs=1e-4) and invalid == 0
    assert other == pytest.approx(cosine**3, abs=1e-4) and other < 0.999
    with pytest.raises(ModelError, match="found no modules"):
        load_embeddings(tmp_path)
