"""Benchmarks name what is there: every import of the package in them, also in code that they hand to `python -c`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except SyntaxError:
        return None


def imports_in(tree: ast.AST) -> Iterator[str]:
    """The imports of the package, wherever they stand, those within strings of code included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "arc_kaggle":
            yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name.partition(".")[0] == "arc_kaggle")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import " in node.value:
            yield from imports_in(parsed(node.value) or ast.Module([], []))


def missing(statements: Iterator[str]) -> list[str]:
    """Those that raise ImportError."""
    found = []
    for statement in statements:
        try:
            exec(statement, {})
        except ImportError as error:
            found.append(f"{statement}: {error}")
    return found


@pytest.mark.torch
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_import_of_the_package_is_there(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert missing(imports_in(tree)) == []


@pytest.mark.torch
def test_code_in_strings_is_read_too() -> None:
    stale = 'CODE = """\nimport sys\nfrom arc_kaggle.tune import InProcessTuner\n"""'
    assert missing(imports_in(ast.parse(stale))) == [
        "from arc_kaggle.tune import InProcessTuner: No module named 'arc_kaggle.tune'"
    ]
