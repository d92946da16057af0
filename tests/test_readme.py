"""README says what is there: every command, every dependency, the tasks of the dry run."""

from __future__ import annotations

import re
from pathlib import Path

from arc_kaggle.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
