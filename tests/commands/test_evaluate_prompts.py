"""`train` on prompts, then `evaluate-prompts`: every score, on a tiny model that has learnt its answers by heart."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prompt_models import write_embeddings, write_set, write_text_model

from arc_kaggle.cli import main
from arc_kaggle.config.prompts import PromptEvaluation
from arc_kaggle.errors import ConfigError, EngineError, ModelError
from arc_kaggle.evaluation.model_folders import ModelFolder, find_model_folders
from arc_kaggle.evaluation.prompts.judge import ask, make_text_engine
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


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


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
    lines = lines_of(tmp_path)
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
    lines = lines_of(tmp_path)
    base, adapter = ([each["log_prob"] for each in line["predictions"]] for line in (lines[0], lines[2]))
    assert not np.allclose(base, adapter, atol=1e-3)


SAMPLED = ["--predictions", "3", "--temperature", "1", "--extract", r"\S+"]


def test_samples_differ_and_are_joined(folders: dict[str, Path], tmp_path: Path) -> None:
    summary_of(folders, tmp_path, ["base"], "words.jsonl", *SAMPLED, "--combine", "join")
    for line in lines_of(tmp_path):
        texts = [each["text"] for each in line["predictions"]]
        assert len({*texts}) == 3
        assert line["value"] == " ".join(dict.fromkeys(text.split()[-1] for text in texts if text.split()))


def test_the_likeliest_sample_is_that_of_the_highest_mean(folders: dict[str, Path], tmp_path: Path) -> None:
    summary_of(folders, tmp_path, ["base"], "words.jsonl", *SAMPLED, "--combine", "likeliest")
    for line in lines_of(tmp_path):
        best = max(line["predictions"], key=lambda each: each["log_prob"] / each["n_tokens"])
        assert line["value"] == best["text"].split()[-1]


def test_samples_vote(folders: dict[str, Path], tmp_path: Path) -> None:
    """Of their last vowels the most frequent one wins, of equals that of the likelier text."""
    options = ["--predictions", "5", "--temperature", "1", "--seed", "3", "--extract", "[aeiou]", "--combine", "vote"]
    summary_of(folders, tmp_path, ["base"], "words.jsonl", *options)
    likeliest = []
    for line in lines_of(tmp_path):
        means = [(each["log_prob"] / each["n_tokens"], each["text"]) for each in line["predictions"]]
        vowels = [(mean, re.findall("[aeiou]", text)[-1]) for mean, text in means]
        votes = Counter(vowel for _, vowel in vowels)
        assert line["value"] == max(vowels, key=lambda each: (votes[each[1]], each[0]))[1]
        likeliest.append(max(vowels)[1])
    assert [line["value"] for line in lines_of(tmp_path)] != likeliest


@pytest.mark.parametrize(("how", "right"), [("vote", 1.0), ("likeliest", 1.0), ("join", 0.0)])
def test_several_models_are_combined(folders: dict[str, Path], tmp_path: Path, how: str, right: float) -> None:
    """Nearly greedy, what was learnt by heart has three votes for one text, the base one for each of three."""
    options = ["--predictions", "3", "--temperature", "0.3", "--combine", how]
    summary = summary_of(folders, tmp_path, ["base", "learnt"], "words.jsonl", *options)
    assert [summary["results"][name]["exact"] for name in ("base", "learnt", "combined")] == [0.0, 1.0, right]
    base, learnt, together = (lines_of(tmp_path)[i] for i in (0, 2, 4))
    assert together["predictions"] == base["predictions"] + learnt["predictions"]
    assert len({each["text"] for each in base["predictions"]}) == 3
    if how == "join":
        assert together["value"] == f"{base['value']} {learnt['value']}"


def test_the_base_of_an_adapter_has_no_vote(folders: dict[str, Path], tmp_path: Path) -> None:
    """It is compared with the adapter; with another model beside the adapter those two are combined."""
    of_base = ["--base", str(folders["base"])]
    alone = summary_of(folders, tmp_path / "a", ["base", "adapter"], "words.jsonl", *of_base)
    assert [*alone["results"]] == ["base", "adapter"] and len(alone["compared_with_first"]) == 1
    three = summary_of(folders, tmp_path / "b", ["base", "adapter", "learnt"], "words.jsonl", *of_base)
    assert [*three["results"]] == ["base", "adapter", "learnt", "combined"]
    voted = {each["model"] for each in lines_of(tmp_path / "b")[-1]["predictions"]}
    assert {name.partition(".")[0] for name in voted} == {"adapter", "learnt"}


def test_examples_come_from_another_file(folders: dict[str, Path], tmp_path: Path) -> None:
    options = ["--shots", "1", "--shots-from", str(folders["code.jsonl"])]
    shot = summary_of(folders, tmp_path, ["learnt"], "words.jsonl", *options)
    assert shot["results"]["learnt"]["exact"] < 1.0  # it was never trained with examples before a prompt


def test_a_prefix_stands_in_front_of_every_prompt(folders: dict[str, Path], tmp_path: Path) -> None:
    there = [{**line, "prompt": "grid: " + line["prompt"]} for line in LINES]
    paths = {**folders, "there.jsonl": write_set(tmp_path / "there.jsonl", there)}
    summary_of(paths, tmp_path / "a", ["base"], "there.jsonl", "--score", "choice")
    summary_of(paths, tmp_path / "b", ["base"], "words.jsonl", "--score", "choice", "--prefix", "grid: ")
    summary_of(paths, tmp_path / "c", ["base"], "words.jsonl", "--score", "choice")
    written, by_option, without = ([line["predictions"] for line in lines_of(tmp_path / name)] for name in "abc")
    assert written == by_option != without


def test_an_answer_ends_at_the_stop_text(folders: dict[str, Path], tmp_path: Path) -> None:
    found = summary_of(folders, tmp_path, ["learnt"], "words.jsonl", "--stop", "\n")
    assert [line["value"] for line in lines_of(tmp_path)] == ["it is", "so"]
    assert found["results"]["learnt"]["exact"] == 0.0


def test_the_first_items_alone_are_judged(folders: dict[str, Path], tmp_path: Path) -> None:
    assert summary_of(folders, tmp_path, ["learnt"], "words.jsonl", "--first", "1")["n"] == 1
    assert [line["id"] for line in lines_of(tmp_path)] == ["sum"]


def test_choices_are_compared_by_the_mean_of_their_tokens_where_it_is_asked_for(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """A model of random weights has no liking, so that the sum is in favour of what is short."""
    words = ["grid", "input output", "the rows of the grid and the columns", "1 2 3 4 5 6 7 8 9"]
    data = [{"prompt": f"{i}?", "completion": words[0], "choices": words} for i in range(4)]
    paths = {**folders, "choices.jsonl": write_set(tmp_path / "choices.jsonl", data)}
    found = {}
    for name, options in {"sum": [], "mean": ["--per-token"]}.items():
        summary_of(paths, tmp_path / name, ["base"], "choices.jsonl", "--score", "choice", *options)
        found[name] = lines_of(tmp_path / name)
    assert [line["value"] for line in found["sum"]] == [
        max(line["predictions"], key=lambda each: each["log_prob"])["text"] for line in found["sum"]
    ]
    assert [line["value"] for line in found["mean"]] == [
        max(line["predictions"], key=lambda each: each["log_prob"] / each["n_tokens"])["text"] for line in found["mean"]
    ]
    assert [line["value"] for line in found["sum"]] != [line["value"] for line in found["mean"]]


def test_choices_follow_what_is_given(folders: dict[str, Path], tmp_path: Path) -> None:
    """With `given` in front of completion and choices it is the same item as with what follows alone."""
    given = [{**line, "given": line["completion"].partition("####")[0]} for line in LINES]
    paths = {**folders, "given.jsonl": write_set(tmp_path / "given.jsonl", given)}
    summary = summary_of(paths, tmp_path / "out", ["learnt"], "given.jsonl", "--score", "choice")
    assert summary["results"]["learnt"]["choice"] == 1.0
    texts = [[each["text"] for each in line["predictions"]] for line in lines_of(tmp_path / "out")]
    assert texts == [["#### 4", "#### 5"], ["#### 8", "#### 7"]]


@pytest.mark.parametrize(
    ("tests", "limit", "points"),
    [
        ("x = bytearray(300 * 2**20)", [], 1.0),
        ("x = bytearray(300 * 2**20)", ["--tests-memory-mb", "256"], 0.0),
        ("import time\ntime.sleep(2.5)", [], 1.0),
        ("import time\ntime.sleep(2.5)", ["--tests-seconds", "1"], 0.0),
    ],
    ids=["memory", "less memory", "seconds", "fewer seconds"],
)
def test_tests_of_code_have_their_limits(
    folders: dict[str, Path], tmp_path: Path, tests: str, limit: list[str], points: float
) -> None:
    data = write_set(tmp_path / "limited.jsonl", [{**TESTED[0], "tests": tests}])
    paths = {**folders, "limited.jsonl": data}
    found = summary_of(paths, tmp_path / "out", ["learnt"], "limited.jsonl", "--score", "code", *limit)
    assert found["results"]["learnt"]["code"] == points


def test_a_base_in_four_bits_leaves_the_named_modules(folders: dict[str, Path], tmp_path: Path) -> None:
    (model,) = find_model_folders([folders["adapter"]], folders["base"])
    config = PromptEvaluation((folders["adapter"],), Path("s"), tmp_path, precision="fp32", four_bit=True, device="cpu")
    engine: Any = make_text_engine(model, 2, 10, replace(config, four_bit_skip=("down_proj",)))
    mlp = engine.model.network.get_decoder().layers[0].mlp
    dtypes = [getattr(each, "base_layer", each).weight.dtype for each in (mlp.down_proj, mlp.up_proj)]
    assert dtypes == [torch.float32, torch.uint8]


def counted(monkeypatch: pytest.MonkeyPatch, fail_at: str) -> list[str]:
    """The models that are asked, in order; at one of them the run is stopped."""
    asked: list[str] = []

    def ask_and_count(model: ModelFolder, *arguments: Any) -> Any:
        asked.append(model.name.partition(".")[0])
        if asked[-1] == fail_at:
            raise KeyboardInterrupt
        return ask(model, *arguments)

    monkeypatch.setattr("arc_kaggle.evaluation.prompts.judge.ask", ask_and_count)
    return asked


def test_a_stopped_run_goes_on_behind_the_last_model(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate-prompts", str(folders["base"]), str(folders["learnt"]), "--data", str(folders["words.jsonl"])]
    words += ["--precision", "fp32", "--max-new-tokens", "40", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    through = (tmp_path / "out" / "predictions.jsonl").read_text()
    asked = counted(monkeypatch, "learnt")
    words[-1] = str(tmp_path / "stopped")
    assert main(words) == 130 and asked == ["base", "learnt"]
    assert not (tmp_path / "stopped" / "predictions.jsonl").exists()
    asked = counted(monkeypatch, "")
    assert main([*words, "--tokens-per-batch", "4096"]) == 0 and asked == ["learnt"]  # which shapes no result
    assert (tmp_path / "stopped" / "predictions.jsonl").read_text() == through
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["predictions.jsonl", "summary.json"]


@pytest.mark.parametrize("changed", ["an option", "the items", "the model"])
def test_what_was_kept_of_another_run_is_not_taken(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    first = shutil.copytree(folders["base"], tmp_path / "first")
    data = write_set(tmp_path / "set.jsonl", LINES)
    words = ["evaluate-prompts", str(first), str(folders["learnt"]), "--data", str(data), "--precision", "fp32"]
    words += ["--out", str(tmp_path / "out"), "--max-new-tokens"]
    counted(monkeypatch, "learnt")
    assert main([*words, "4"]) == 130
    if changed == "the items":
        write_set(data, LINES[:1])
    if changed == "the model":
        write_text_model(first, seed=1)
    asked = counted(monkeypatch, "")
    assert main([*words, "5" if changed == "an option" else "4"]) == 0
    assert asked == ["first", "learnt"]


def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_asked(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    asked = counted(monkeypatch, "")
    words = ["evaluate-prompts", str(folders["base"]), "--data", str(folders["words.jsonl"])]
    assert main([*words, "--out", str(tmp_path / "file")]) == 2 and asked == []
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 1}, "shots: found 1 from None"),
        ({"shots": 1, "shots_from": Path("set.jsonl")}, "which is judged"),
        ({"score": "similarity"}, "embeddings: found None with score similarity"),
        ({"predictions": 2}, "found 2 at temperature 0"),
        ({"extract": "(a"}, r"extract: found '\(a', expected a regular expression \(missing \), unterminated"),
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
    assert make_score(config)(items, [None] * 3) == [0.0] * 3
    with pytest.raises(ModelError, match="found no modules"):
        load_embeddings(tmp_path)
