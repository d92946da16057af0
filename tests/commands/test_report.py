"""`arc-kaggle report` says where the page is, and `make dry-run` ends with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from in_process import solve_here
from processes import fake_config

from arc_kaggle.cli import main

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_report_writes_the_page_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = fake_config(tmp_path, 2)
    solve_here(config)
    capsys.readouterr()
    assert main(["report", str(config.out)]) == 0
    page = config.out / "report.html"
    assert capsys.readouterr().out.split()[0] == str(page) and page.read_text().startswith("<!doctype html>")


def test_the_dry_run_leaves_its_page_in_the_folder_of_the_run() -> None:
    (recipe,) = re.findall(r"^dry-run:.*\n((?:\t.*\n)+)", MAKEFILE.read_text(), re.MULTILINE)
    solve, report = recipe.splitlines()
    assert solve.startswith("\t$(BIN)/arc-kaggle solve ") and "--out $(OUT) " in solve
    assert report == "\t$(BIN)/arc-kaggle report $(OUT)"
