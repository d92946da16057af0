"""What a file imports, read from its syntax: at once or later, of this package or from outside, torch or no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "arc_kaggle"

TORCH = {"torch", "transformers", "peft", "safetensors", "accelerate", "bitsandbytes", "vllm", "unsloth"}
"""Torch, and packages that load it."""


STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""Nodes in which an import may be."""


class Import(NamedTuple):
    """One import: of which module or package, in which line, and whether it happens as its module is imported."""

    name: str
    line: int
    at_once: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {path: path.relative_to(PACKAGE.parent).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    return {".".join(part for part in parts if part != "__init__"): path for path, parts in paths.items()}


@cache
def helpers() -> dict[str, Path]:
    """Every module beside this one that test files share, by its name."""
    return {path.stem: path for path in Path(__file__).parent.glob("*.py")}


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(find_imports(path.read_text(encoding="utf-8")))


def find_imports(code: str) -> Iterator[Import]:
    """All imports of a module: also those in functions and, not at once, those for type checkers alone."""
    below: list[tuple[ast.AST, bool]] = [(ast.parse(code), True)]
    while below:
        node, at_once = below.pop()
        for name in imported_names(node):
            yield Import(name, getattr(node, "lineno", 0), at_once)
        inner = at_once and not is_later(node)
        below += [(each, inner) for each in ast.iter_child_nodes(node) if isinstance(each, STATEMENTS)]


def is_later(node: ast.AST) -> bool:
    """Whether what is inside does not run upon import."""
    is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return is_typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imported_names(node: ast.AST) -> list[str]:
    """Modules that a statement imports; of packages from outside the first name."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if name in modules() else str(node.module) for name in below]
    else:
        return []
    return [name if name in modules() else name.partition(".")[0] for name in names]


def brings(path: Path, lazily: bool = False) -> set[str]:
    """Every package from outside that importing a file imports; with `lazily` also what calls of its functions may."""
    found: set[str] = set()
    _gather(path, lazily, found)
    return found - modules().keys() - helpers().keys()


def _gather(path: Path, lazily: bool, found: set[str]) -> None:
    for each in imports(path):
        if each.name not in found and (each.at_once or lazily):
            found.add(each.name)
            if inner := modules().get(each.name) or helpers().get(each.name):
                _gather(inner, lazily, found)


@cache
def may_load_torch(path: Path) -> bool:
    """Whether importing a test file, or calling anything in it, imports torch into the same process."""
    return bool(TORCH & brings(path, lazily=True))
