"""Threads: what a process finds set, and that it finds it in time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.hardware import n_cores
from arc_kaggle.system.threads import SPIN_COUNT, WAITS, n_threads, thread_environment


def test_a_process_is_told_how_threads_wait_and_how_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITS:
        monkeypatch.delenv(name, raising=False)
    assert thread_environment() == {"GOMP_SPINCOUNT": SPIN_COUNT}
    assert thread_environment(3) == {"GOMP_SPINCOUNT": SPIN_COUNT, "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


@pytest.mark.parametrize("name", WAITS)
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ACTIVE")
    assert thread_environment() == {}


@pytest.mark.parametrize(("text", "expected"), [("4", 4), ("4,2", 4), (" 3 , 2,1", 3), ("", n_cores())])
def test_of_a_list_the_outermost_level_counts(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert n_threads() == expected


@pytest.mark.parametrize("text", ["abc", "-1", "4.5", "²", "4;2"])
def test_what_is_no_number_is_one_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(ConfigError, match=f"environment variable OMP_NUM_THREADS: found '{text}', expected a number"):
        n_threads()


@pytest.mark.torch
@pytest.mark.skipif(sys.platform != "linux", reason="torch uses libgomp on Linux alone")
def test_a_command_sets_it_before_torch_is_loaded() -> None:
    """libgomp itself says what it has read."""
    code = "import atexit, sys; from arc_kaggle.cli import entry; atexit.register(__import__, 'torch'); entry()"
    ours = {name: value for name, value in os.environ.items() if name not in WAITS}
    words = [sys.executable, "-c", code, "--version"]
    said = subprocess.run(words, env={**ours, "OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in said.stderr
