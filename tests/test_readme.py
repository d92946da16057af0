"""README says what is there: every module in flow order, every command, every dependency."""

from __future__ import annotations

import re
from pathlib import Path

from test_layers import ORDER, module_path

from arc_kaggle.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


FOLDED = ("rules", "verifiers", "planning", "workers", "bundle", "kaggle")
"""Packages that have one line in the file map; of others every module has its own."""


def test_the_file_map_is_the_flow() -> None:
    listed = re.findall(r"^\| `([\w/]+)(?:\.py|/)` \|", README, re.MULTILINE)
    modules = [m for m in ORDER if module_path(m).name != "__init__.py" and m.partition(".")[0] not in FOLDED]
    expected = [m for m in ORDER if m in modules or m in FOLDED]
    assert [name.replace("/", ".") for name in listed] == expected


def test_every_command_is_shown() -> None:
    assert [name for name in COMMANDS if f"arc-kaggle {name} " not in README] == []


def test_every_dependency_has_its_reason() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = re.findall(r'"([a-z0-9-]+)[=>]=', setup.split("install_requires")[1].split("]")[0])
    assert len(required) > 8
    assert [name for name in required if not re.search(rf"^\|.*\b{name}\b.*\|", README, re.MULTILINE)] == []


def test_the_tasks_of_the_dry_run_are_those_that_readme_names() -> None:
    (count,) = re.findall(r"--select shortest:(\d+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert int(count) >= 20
    assert f"--select shortest:{count}`" in README and f"The {count} tasks" in README
