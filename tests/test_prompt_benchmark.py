"""The benchmark of prompts: its made-up sets, what it does again and what not, and all of it at toy size."""

from __future__ import annotations

import ast
import json
import sys
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prompt_models import write_embeddings

from arc_kaggle.cli import main
from arc_kaggle.tasks.prompt_sets import PromptItem, read_prompt_set
from arc_kaggle.training.mixture import unit_digest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("prompts")


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("prompt_sets")


def texts_of(folder: Path, name: str) -> set[str]:
    """What a set is about: the sentence that is rewritten, or the question."""
    items = read_prompt_set(folder / f"{name}.jsonl")
    texts = [item.question.partition("\n\n")[0].removeprefix("Original text:\n") for item in items]
    assert len({*texts}) == len(texts)
    return {*texts}


def test_no_text_is_trained_and_tested(sets: Any, tmp_path: Path) -> None:
    """Not even one of a training with one seed and a test with another."""
    for seed in range(4):
        sets.write_sets(tmp_path / str(seed), seed)
    assert (tmp_path / "0" / "words-train.jsonl").read_text() != (tmp_path / "1" / "words-train.jsonl").read_text()
    for one, other in product(map(str, range(4)), repeat=2):
        assert not texts_of(tmp_path / one, "rewrite-train") & texts_of(tmp_path / other, "rewrite-test")
        for name in ("words-test", "choices-test"):
            assert not texts_of(tmp_path / one, "words-train") & texts_of(tmp_path / other, name)


def test_some_of_what_is_trained_can_be_held_out(sets: Any, tmp_path: Path) -> None:
    """A fifth, which is what the benchmark asks for, but for chance."""
    sets.write_sets(tmp_path)
    for name in ("rewrite-train", "words-train"):
        items = read_prompt_set(tmp_path / f"{name}.jsonl")
        assert 0.1 < sum(unit_digest(item.question) < 0.2 for item in items) / len(items) < 0.3


def test_wordings_of_tested_instructions_are_never_trained(sets: Any, tmp_path: Path) -> None:
    sets.write_sets(tmp_path)
    trained, tested = (
        {item.completion for item in read_prompt_set(tmp_path / f"rewrite-{side}.jsonl")} for side in ("train", "test")
    )
    assert len(trained) == 20 and len(tested) == 10 and not trained & tested


def passes(item: PromptItem, body: str) -> bool:
    names: dict[str, Any] = {}
    exec(f"{head_of(item)}\n    return {body}", names)
    try:
        exec(item.tests, names)
    except Exception:
        return False
    return True


def head_of(item: PromptItem) -> str:
    return item.completion.splitlines()[1]


def body_of(item: PromptItem) -> str:
    return item.completion.splitlines()[2].strip().removeprefix("return ")


def results_of(item: PromptItem) -> list[str]:
    """What the tests expect, as code."""
    compares = [node.test for node in ast.parse(item.tests).body if isinstance(node, ast.Assert)]
    return [ast.unparse(each.comparators[0]) for each in compares if isinstance(each, ast.Compare)]


def test_tests_of_functions_tell_the_right_body_from_others(sets: Any, tmp_path: Path) -> None:
    """From each result that is expected handed back, each argument handed back, and every other function."""
    sets.write_sets(tmp_path)
    items = [item for side in ("train", "test") for item in read_prompt_set(tmp_path / f"code-{side}.jsonl")]
    assert len(items) == 32
    for item in items:
        assert passes(item, body_of(item)) and len(results_of(item)) >= 3
        arguments = head_of(item).partition("(")[2].partition(")")[0].split(", ")
        bodies = {body_of(each) for each in items if head_of(each) == head_of(item)} - {body_of(item)}
        wrong = [body for body in (*results_of(item), *arguments, *bodies, "None") if passes(item, body)]
        assert wrong == [], f"{item.id}, {item.question}: passed by {wrong}"


JOBS = {
    "trained": ["python", "-m", "arc_kaggle.cli", "train", "--out", "OUT/trained", "--data", "prompts:SET"],
    "asked": ["python", "-m", "arc_kaggle.cli", "evaluate-prompts", "OUT/trained/best", "--out", "OUT/asked"],
    "base": ["python", "-m", "arc_kaggle.cli", "evaluate-prompts", "MODEL", "--out", "OUT/base"],
}


def done_again(prompts: Any, options: Any, **changes: list[str]) -> list[str]:
    """The jobs that are run, some of them with other words behind them."""
    places = {"OUT": str(options.out), "SET": str(options.set_file("set")), "MODEL": str(options.model)}
    jobs = {}
    for name, words in JOBS.items():
        for place, path in places.items():
            words = [word.replace(place, path) for word in words]
        jobs[name] = [*words, *changes.get(name, [])]
    ran: list[str] = []
    for name in jobs:
        prompts.do(name, jobs, options, lambda command: ran.append(Path(command[command.index("--out") + 1]).name))
    return ran


def test_what_comes_of_another_training_set_or_model_is_done_again(prompts: Any, tmp_path: Path) -> None:
    options = prompts.Options(tmp_path / "out", tmp_path / "model", None)
    for folder in (options.out / "sets", options.model):
        folder.mkdir(parents=True)
    options.set_file("set").write_text("1")
    (options.model / "config.json").write_text('{"hidden_size": 8}')
    assert done_again(prompts, options) == ["trained", "asked", "base"]
    assert done_again(prompts, options) == []
    (stale := options.out / "asked").mkdir()
    assert done_again(prompts, options, trained=["--seed", "1"]) == ["trained", "asked"] and not stale.exists()
    options.set_file("set").write_text("2")
    assert done_again(prompts, options, trained=["--seed", "1"]) == ["trained", "asked"]
    assert done_again(prompts, options, trained=["--seed", "1"], asked=["--chat"]) == ["asked"]
    for name, text in {"config.json": '{"hidden_size": 9}', "model.safetensors": "more"}.items():
        (options.model / name).write_text(text)
        assert done_again(prompts, options, trained=["--seed", "1"], asked=["--chat"]) == ["base"]


def test_it_runs_from_any_folder(prompts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import arc_kaggle, pathlib; pathlib.Path('where').write_text(arc_kaggle.__file__)"
    prompts.in_a_process([])([sys.executable, "-c", code])
    assert Path((tmp_path / "where").read_text()).is_relative_to(BENCHMARKS.parent)
    monkeypatch.setattr(sys, "argv", ["prompts.py"])
    monkeypatch.setattr(prompts, "do_all", lambda options, run: seen.append(options) or {})
    seen: list[Any] = []
    prompts.main()
    assert (seen[0].out, seen[0].model) == (BENCHMARKS.parent / "out/prompts", BENCHMARKS.parent / ".data/real-model")


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_all_jobs_go_through_and_each_is_in_the_tables_at_once(
    prompts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From another folder than that of the repository; a second call does nothing."""
    monkeypatch.chdir(tmp_path)
    options = prompts.toy(tmp_path / "out", write_embeddings(tmp_path / "embeddings"))
    rows: list[int] = []
    tables = options.out / "tables.md"

    def run(command: list[str]) -> None:
        rows.append(len(tables.read_text().splitlines()) if tables.exists() else 0)
        assert command[1:3] == ["-m", "arc_kaggle.cli"] and main(command[3:]) == 0

    found = prompts.do_all(options, run)
    assert rows == sorted({*rows}) and len(rows) == len(found) == 4 + 7 + 10 + 3
    assert found["words-adapters"]["results"].keys() == {"mix-words-alone.best", "mix-both.best", "combined"}
    assert all(len(each["validation_loss"]) == 3 for each in found.values() if "validation_loss" in each)
    text = tables.read_text()
    assert all(f"| {name} |" in text for name in found)
    assert json.loads((options.out / "rewrite-best.json").read_text())["key"]
    prompts.do_all(options, run)
    assert len(rows) == len(found) and tables.read_text() == text
