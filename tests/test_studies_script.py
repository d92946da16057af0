"""The script of all studies: what is through stays, what its hours ended goes on, tables say how they were made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.torch


def studies(out: Path, only: str, hours: str, extra: str) -> subprocess.CompletedProcess[str]:
    """The script on another folder than the repository, with the fake engine."""
    words = f"--set engine=fake --set recipe=none --seeds 1 {extra}"
    known = {"ONLY": only, "HOURS": hours, "EXTRA": words, "PYTHON": sys.executable}
    return subprocess.run(
        ["sh", str(ROOT / "benchmarks" / "studies.sh"), str(out)],
        cwd=out.parent,
        env={**os.environ, **known, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_hours_ended_goes_on_and_what_is_through_is_not_done_again(tmp_path: Path) -> None:
    out = tmp_path / "studies"
    tables = out / "tables"
    ended = studies(out, "steps output-size", "1e-5", "--n-tasks 2 --part-size 1 --over generate.n-views=1,2")
    assert ended.returncode == 1 and "give --hours" in ended.stdout
    assert ended.stderr.splitlines()[-1].endswith("not through, and the same command goes on: steps")
    assert not (tables / "steps-table.md").exists()
    both = "steps predictions output-size"
    through = studies(out, both, "1", "--n-tasks 2 --part-size 1 --set generate.n-views=2")
    assert through.returncode == 0, through.stderr
    assert [line.split(":")[0] for line in through.stdout.splitlines() if line.startswith("==")] == [
        "== steps",
        "== predictions",
        "== output-size",
    ]
    for name in both.split():
        assert (tables / f"{name}-table.md").read_text().startswith("| row |")
        assert json.loads((tables / f"{name}-progress.json").read_text())["is_through"] is True
    commands = (tables / "steps.txt").read_text().splitlines()
    assert len(commands) == 2 and all(line.startswith("arc-kaggle study sweep --out ") for line in commands)
    assert ", commit " in commands[0]
    again = studies(out, both, "1", "--n-tasks 2 --part-size 1 --set generate.n-views=2")
    assert again.returncode == 0 and "== steps" not in again.stdout and "== predictions" not in again.stdout
    progress = out / "steps" / "progress.json"
    progress.write_text(json.dumps({**json.loads(progress.read_text()), "is_through": False}))
    cut = studies(out, "steps", "1", "--n-tasks 2 --part-size 1 --set generate.n-views=2")
    assert cut.returncode == 0 and "== steps" in cut.stdout, "a table alone is no end"
