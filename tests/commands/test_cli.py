"""The command line: what it takes, what it says, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from in_process import solve_here
from processes import N_VIEWS, fake_config, read_report, write_tasks

import arc_kaggle
from arc_kaggle import commands
from arc_kaggle.answering.candidates import read_predictions
from arc_kaggle.cli import COMMANDS, main
from arc_kaggle.config.model import BOX_FOLDER, recipe_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.drawing import view_title
from arc_kaggle.run import solve as run_solve
from arc_kaggle.run.report import SolveResult
from arc_kaggle.tasks.augmentation import Augmentation


def exit_code(words: Sequence[str]) -> int:
    """What a shell would see."""
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    return str(write_tasks(tmp_path, 3))


def test_without_a_command_and_for_help_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [exit_code([]), exit_code(["--help"]), exit_code(["-h"])] == [2, 0, 0]
    out = capsys.readouterr().out
    assert out.count("usage: arc-kaggle COMMAND [OPTIONS]") == 3
    assert re.findall(r"^  ([\w-]+) +\w", out, re.MULTILINE) == [*COMMANDS] * 3
    assert {"solve", "score", "show", "train"} <= COMMANDS.keys()


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--version"]) == 0
    assert capsys.readouterr().out == f"arc-kaggle {arc_kaggle.__version__}\n"


def test_every_command_is_a_module_of_its_name_and_every_module_a_command() -> None:
    modules = {path.stem for path in Path(commands.__path__[0]).glob("*.py")} - {"__init__"}
    assert modules == {name.replace("-", "_") for name in COMMANDS}


UNITS = {
    "solve": ["Minutes from the start", "Most tokens of an answer", "Most seconds of fine-tuning", "0..1"],
    "score": ["Kaggle's way"],
    "show": ["--what {task,view,training_prompt,query_prompt}"],
    "train": ["Tokens in one optimizer step", "Steps between two savings", "0..1"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_carries_units(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([name, "--help"]) == 0
    captured = capsys.readouterr()
    plain = re.sub(r"[│╭╮╰╯─\s]+", " ", re.sub(r"\x1b\[[\d;]*m", "", captured.out))
    assert plain.startswith(f"usage: arc-kaggle {name} ")
    assert [unit for unit in UNITS.get(name, []) if unit not in plain] == []
    assert captured.err == ""


TASKS, OUT = "TASKS", "OUT"
BAD_WORDS = [
    (["sovle"], f"command 'sovle': no such command (did you mean 'solve'?); expected one of {', '.join(COMMANDS)}"),
    (["solve", "--tasks", TASKS], "--out PATH"),
    (["solve", "--out", OUT], "--tasks STR"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--seeed", "1"], "--seed INT"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--generate.nviews", "1"], "--generate.n-views INT"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--tune.optim.learning-rat", "1"], "--tune.optim.learning-rate FLOAT"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--seed", "x"], "'x'"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--recipe", "bxo"], "did you mean 'box'?"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--recipe"], "expected one argument"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--generate.n-views", "0"], "n_views: found 0, expected 1 or more"),
    (["solve", "--tasks", TASKS, "--out", OUT, "--select", "t99"], "found no task 't99' among 3"),
    (["solve", "--tasks", "nowhere.json", "--out", OUT], "'nowhere.json': found no such file or folder"),
    (["solve", "--tasks", "arc1:evalution", "--out", OUT], "'arc1:evalution': no such set, expected one of arc1:train"),
    (["solve", "--tasks", "bad.json", "--out", OUT], "bad.json: task a, test pair 0, input, row 0, column 1: found 11"),
    (["solve", "--tasks", TASKS, "--out", "bad.json", "--engine", "fake"], "bad.json: cannot be written to"),
    (["score", "nowhere.json", "--tasks", TASKS], "nowhere.json: cannot be read"),
    (["score", "--tasks", TASKS], "submission"),
    (["show", "--tasks", TASKS, "--what", "tsk"], "'task', 'view', 'training_prompt', 'query_prompt'"),
    (["show", "--tasks", TASKS, "--out", "a.gif"], "found suffix '.gif', expected .svg or .png"),
    (["show", "--tasks", TASKS, "--what", "view", "--view", "-1"], "option view: found -1, expected 0 or more"),
    (
        ["show", "--tasks", TASKS, "--what", "query_prompt", "--model", "nowhere"],
        "nowhere: found no such folder",
    ),
    (["show", "--tasks", TASKS, "--what", "query_prompt", "--model", "empty"], "empty: found no tokenizer"),
]


@pytest.mark.parametrize(("words", "message"), BAD_WORDS, ids=str)
def test_bad_input_is_one_clear_message(
    words: list[str],
    message: str,
    tasks: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text('{"a": {"train": [{"input": [[1]], "output": [[3]]}], "test": [{"input": [[1, 11]]}]}}')
    Path("empty").mkdir()
    assert exit_code([{TASKS: tasks, OUT: "out"}.get(word, word) for word in words]) == 2
    captured = capsys.readouterr()
    plain = re.sub(r"[│\s]+", " ", captured.err)
    assert message in plain and "Traceback" not in plain
    assert captured.out == ""
    assert len(captured.err) < 1500
    assert not Path("out").exists()


def test_a_program_ends_as_its_command_does(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "arc_kaggle.cli", "score", "nowhere.json", "--tasks", "nowhere.json"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith("arc-kaggle: tasks 'nowhere.json': found no such file") and done.stderr.count("\n") == 1
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_solve_needs_only_tasks_and_out(
    tasks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[SolveConfig] = []

    def listen(config: SolveConfig) -> SolveResult:
        seen.append(config)
        return SolveResult((), {}, 1.0)

    monkeypatch.setattr("arc_kaggle.commands.solve.solve", listen)
    words = ["solve", "--tasks", tasks, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main([*words, "--recipe", "lora", "--tune.steps", "3", "--overwrite"]) == 0
    plain, chosen = seen
    assert plain == SolveConfig(tasks, tmp_path / "out")
    assert plain.tune == recipe_of(BOX_FOLDER) and plain.engine == "auto"
    assert (chosen.tune.weights, chosen.tune.steps, chosen.overwrite) == ("lora", 3, True)
    assert "two attempts for 0 tasks, 1 s" in capsys.readouterr().out


def test_solve_with_the_model_that_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--tune.steps", "2", "--generate.n-views", "2"]
    assert main(["solve", "--tasks", str(write_tasks(tmp_path, 1)), "--out", str(tmp_path / "out"), *few]) == 0
    assert re.search(r"^t00 +\d+\.\d +\d+\.\d +1  ", capsys.readouterr().out, re.MULTILINE)
    (row,) = read_report(tmp_path / "out")["reports"]
    assert row["run"]["tune"]["tuned"] is True
    assert sum(row["run"]["reasons"].values()) == 2


def test_neither_the_package_nor_a_supervisor_imports_torch(tasks: str, tmp_path: Path) -> None:
    code = f"""
import sys
import arc_kaggle
assert set(arc_kaggle.__all__) <= set(dir(arc_kaggle))
from arc_kaggle.cli import main
words = ["--tasks", {tasks!r}, "--out", {str(tmp_path / "out")!r}, "--engine", "fake"]
assert main(["solve", *words]) == 0
assert main(["score", {str(tmp_path / "out")!r}, "--tasks", {tasks!r}]) == 0
assert main(["show", "--tasks", {tasks!r}]) == 0
heavy = {{"torch", "transformers", "peft", "safetensors"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# show -----------------------------------------------------------------------------------------------------------------

WHAT = ["task", "view", "training_prompt", "query_prompt"]


@pytest.mark.parametrize("what", WHAT)
def test_show_in_the_terminal(what: str, tasks: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--tasks", tasks, "--what", what, "--view", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<Task t00 | 2 train | 1 test>")
    expected: dict[str, Any] = {
        "task": "test 0: 1x2 → 1x2\n5 6   →  5 6",
        "view": "quarter turn left",
        "training_prompt": "tokens, [23] trained",  # cell and end; the row before them where the encoder names it
        "query_prompt": "tokens, [45] trained",  # the answer and its end, likewise
    }
    assert re.search(expected[what], out.replace(" \n", "\n"))


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize(("suffix", "begin"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_show_into_a_file(
    what: str, suffix: str, begin: bytes, tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"picture{suffix}"
    assert main(["show", "--tasks", tasks, "--what", what, "--out", str(path)]) == 0
    assert path.read_bytes().startswith(begin)
    assert capsys.readouterr().out == f"drawn into {path}\n"


def test_show_draws_each_of_several_tasks_into_a_file_of_its_own(tasks: str, tmp_path: Path) -> None:
    assert main(["show", "--tasks", tasks, "--select", "0:2", "--out", str(tmp_path / "a.svg")]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["a_t00.svg", "a_t01.svg"]


def test_show_shows_the_views_that_solve_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = fake_config(tmp_path, 2, seed=5)
    solve_here(config)
    taken = {p.view: p.augmentation for p in read_predictions(config.out / "predictions" / "t01.jsonl")}
    assert taken[0] == Augmentation() and len(taken) == N_VIEWS
    for view in range(1, N_VIEWS):
        words = ["--tasks", config.tasks, "--select", "t01", "--what", "view", "--view", str(view), "--seed", "5"]
        assert main(["show", *words]) == 0
        task = run_solve.load_tasks(config.tasks, "t01")[0]
        assert capsys.readouterr().out.splitlines()[0].rstrip() == view_title(task, taken[view])


def test_preflight_takes_a_preset_under_both_names(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--prompt", "--preset"):
        assert main(["preflight", option, "arc42"]) == 2
        assert "arc24" in capsys.readouterr().out  # the nearest that there is


def test_signs_that_the_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text('{"\\ud800": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}}')
    words = [sys.executable, "-m", "arc_kaggle.cli", "show", "--tasks", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "<Task \\ud800 | 1 train | 1 test>" in done.stdout
    assert "train 0: 1x1 \\u2192 1x1" in done.stdout
