"""The house: rooms in the order of the data flow, no import back up, no cycle, and torch kept to its own side."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from imports import PACKAGE, TORCH, Import, brings, find_imports, imports, may_load_torch, modules

ROOMS = (
    *("errors", "system", "config", "tasks", "text", "models", "tuning", "engines", "micro", "answering", "drawing"),
    *("run", "synth", "training", "evaluation", "kaggle", "commands", "arc_kaggle", "cli"),
)
"""A room imports only from itself and from rooms before it; `arc_kaggle` is the package with its public names."""

MOST_ARROWS = 386 // 3
"""Pairs of rooms of which one imports from the other: under a third of what they were when modules lay flat."""
MOST_FLOORS = 11
"""Modules in the longest chain of imports that begins at `arc_kaggle.run.solve`."""

WITHOUT_TORCH = ("system", "config", "tasks", "text", "answering", "drawing", "synth", "kaggle", "commands", "cli")
"""Rooms whose modules can be imported without torch; so can the supervisor's side of `run`."""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def inner_imports(module: str) -> list[Import]:
    """Imports of modules of this package, lazy ones included."""
    return [found for found in imports(modules()[module]) if found.name in modules() and found.name != module]


@cache
def floors() -> dict[str, int]:
    """Modules in the longest chain of imports that begins at each module. Raises CycleError where one comes back."""
    below = {module: {found.name for found in inner_imports(module)} for module in modules()}
    found: dict[str, int] = {}
    for module in TopologicalSorter(below).static_order():
        found[module] = 1 + max((found[other] for other in below[module]), default=0)
    return found


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports from), over all imports, lazy ones included."""
    found = {(room_of(module), room_of(each.name)) for module in modules() for each in inner_imports(module)}
    return {(room, other) for room, other in found if room != other}


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in modules()} == set(ROOMS)
    assert len(ROOMS) <= 19


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_before_it(room: str) -> None:
    before = ROOMS[: ROOMS.index(room) + 1]
    back_up = [
        f"{module}, line {found.line}: {found.name}"
        for module in modules()
        if room_of(module) == room
        for found in inner_imports(module)
        if room_of(found.name) not in before
    ]
    assert back_up == []


def test_there_is_no_cycle_and_few_floors() -> None:
    assert max(floors().values()) > MOST_FLOORS  # the deepest module is a command, far above `solve`
    assert floors()["arc_kaggle.run.solve"] <= MOST_FLOORS


def test_there_are_few_arrows_between_rooms() -> None:
    assert len(arrows()) < MOST_ARROWS


def test_torch_stays_on_its_own_side() -> None:
    """Also of `run`: what a worker alone imports lies in `run/worker/`."""
    dry = [m for m in modules() if room_of(m) in WITHOUT_TORCH or (".run." in m and ".run.worker" not in m)]
    assert len(dry) > 100
    assert {module: found for module in dry if (found := sorted(TORCH & brings(modules()[module])))} == {}


def test_the_public_names_come_without_torch() -> None:
    code = "import sys, arc_kaggle, arc_kaggle.cli, arc_kaggle.kaggle; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_public_names_are_imported_when_they_are_asked_for() -> None:
    """A worker imports the package and nothing that it does not use; every name is found, and no other."""
    code = (
        "import sys, arc_kaggle; print([m for m in sys.modules if m.startswith('arc_kaggle.') or m == 'tyro'])\n"
        "print([n for n in arc_kaggle.__all__ if getattr(arc_kaggle, n).__name__ != n], set(arc_kaggle.__all__) <= "
        "{*dir(arc_kaggle)}, hasattr(arc_kaggle, 'nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[] True False"]


@pytest.mark.parametrize("room", [name for name in ROOMS if (PACKAGE / name).is_dir()])
def test_a_room_says_what_it_is_for_and_what_it_may_import(room: str) -> None:
    words = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert words.count(".") >= 1 and "mport" in words, f"{room}/__init__.py: found {words!r}"


def test_no_class_name_is_there_twice() -> None:
    found: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch.nn as nn", [("torch", True)]),
        ("from arc_kaggle.tasks.grid import Grid", [("arc_kaggle.tasks.grid", True)]),
        ("from arc_kaggle import cli, SolveConfig", [("arc_kaggle.cli", True), ("arc_kaggle", True)]),
        ("from arc_kaggle.engines import fake", [("arc_kaggle.engines.fake", True)]),
        ("def f():\n from torch import nn", [("torch", False)]),
        ("if TYPE_CHECKING:\n import arc_kaggle.cli", [("arc_kaggle.cli", False)]),
        ("try:\n import torch\nexcept ImportError: pass", [("torch", True)]),
        ("class A:\n import torch", [("torch", True)]),
    ],
)
def test_imports_are_found_wherever_they_are(code: str, found: list[tuple[str, bool]]) -> None:
    assert [(each.name, each.at_once) for each in find_imports(code)] == found


@pytest.mark.parametrize(
    ("code", "may"),
    [
        ("import torch", True),
        ("def test_it():\n from transformers import AutoModel", True),
        ("from models import lively_model", True),
        ("from arc_kaggle.cli import main", True),
        ("import arc_kaggle.tasks.grid, json, strategies", False),
    ],
)
def test_the_quick_tests_are_those_that_cannot_load_torch(code: str, may: bool, tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(code, encoding="utf-8")
    assert may_load_torch(tmp_path / "test_one.py") is may
