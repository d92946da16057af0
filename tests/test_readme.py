"""README stays short and says what is there: the commands, the rooms, the tasks of the dry run. So does setup.py."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from test_rooms import PACKAGE, ROOMS

from arc_kaggle.cli import COMMANDS
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import select_tasks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FIRST_SCREEN = README.partition("## Commands")[0]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1100


def test_every_command_is_shown() -> None:
    assert [name for name in COMMANDS if f"arc-kaggle {name} " not in README] == []


def test_every_page_of_the_docs_is_linked() -> None:
    pages = [path.name for path in sorted((ROOT / "docs").glob("*.md"))]
    assert [name for name in pages if f"(docs/{name})" not in README] == []


def test_the_map_has_the_rooms_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE)
    assert rows == [room for room in ROOMS if (PACKAGE / room).is_dir()]


def test_the_tasks_of_the_dry_run_are_those_that_readme_names() -> None:
    (name, selection, count) = re.findall(r"--tasks (\S+) --select (shortest:(\d+))", MAKEFILE)[0]
    assert int(count) >= 20
    assert f"the {count} tasks of `--select {selection}`" in README
    chosen = {task.id for task in select_tasks(load_tasks(name), selection)}
    (sample,) = re.findall(r"^```\n(task .*?)```", FIRST_SCREEN, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^([0-9a-f]{8}) ", sample, re.MULTILINE)
    assert len(shown) >= 2 and set(shown) <= chosen


def test_every_dependency_has_its_reason_beside_it() -> None:
    code = (ROOT / "setup.py").read_text(encoding="utf-8")
    lines = code.splitlines()
    (call,) = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and call_name(node) == "setup"]
    asked = {word.arg: word.value for word in call.keywords if word.arg in ("install_requires", "extras_require")}
    named = [each for value in asked.values() for node in ast.walk(value) for each in requirements(node)]
    assert len(named) > 20
    assert [lines[each.lineno - 1] for each in named if not re.search(r"# .*\w \w", lines[each.lineno - 1])] == []


def call_name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def requirements(node: ast.AST) -> list[ast.Constant]:
    """The requirements of a list, as they stand in the code."""
    return [each for each in node.elts if isinstance(each, ast.Constant)] if isinstance(node, ast.List) else []
