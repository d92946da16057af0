"""Deadlines read the clock they are given and no other; the clock of a notebook begins with its kernel."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.deadline import STARTED, Deadline, seconds_since_kernel_start


class FakeClock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("now", "seconds_left", "passed"),
    [(100.0, 10.0, False), (109.5, 0.5, False), (110.0, 0.0, True), (115.0, -5.0, True)],
)
def test_deadline_follows_its_clock(now: float, seconds_left: float, passed: bool) -> None:
    clock = FakeClock(100.0)
    deadline = Deadline.after(10.0, clock)
    clock.now = now
    assert deadline.seconds_left == seconds_left
    assert deadline.passed is passed


@pytest.mark.parametrize(("seconds", "at_s"), [(3.0, 103.0), (10.0, 110.0), (50.0, 110.0), (-1.0, 99.0)])
def test_earlier_never_moves_a_deadline_back(seconds: float, at_s: float) -> None:
    clock = FakeClock(100.0)
    earlier = Deadline.after(10.0, clock).earlier(seconds)
    assert earlier == Deadline(at_s, clock)


def test_never_does_not_pass_but_can_be_cut_short() -> None:
    never = Deadline.never()
    assert never.seconds_left == math.inf
    assert not never.passed
    assert 0 < never.earlier(1000.0).seconds_left <= 1000.0


def test_a_deadline_that_is_now_has_passed() -> None:
    assert Deadline.after(0.0).passed


def test_the_environment_says_when_the_notebook_started(tmp_path: Path) -> None:
    assert seconds_since_kernel_start({STARTED: "1000.5"}, tmp_path, FakeClock(1010.0)) == 9.5


@pytest.mark.parametrize("text", ["soon", "2000", "nan", "-inf"])
def test_a_start_that_is_no_time_in_the_past_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{STARTED}: found '{text}', expected the Unix time"):
        seconds_since_kernel_start({STARTED: text}, tmp_path, FakeClock(1000.0))


def write_process(proc: Path, process: int, parent: int, command: str, started_ticks: int = 0) -> None:
    """A process as /proc shows it; its name has brackets and spaces, as names may."""
    fields = ["S", str(parent), *["0"] * 17, str(started_ticks)]
    (proc / str(process)).mkdir(parents=True)
    (proc / str(process) / "stat").write_text(f"{process} (a) name)) {' '.join(fields)} 0 0\n")
    (proc / str(process) / "cmdline").write_bytes(command.replace(" ", "\0").encode())


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("python -m ipykernel_launcher -f x.json", 70.0),
        ("python /usr/lib/ipykernel_launcher.py -f x.json", 70.0),
        ("python -m jupyter lab", 0.0),
        ("vi ipykernel_launcher_notes.txt", 0.0),
    ],
)
def test_a_kernel_among_the_parents_says_when_it_started(tmp_path: Path, command: str, seconds: float) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    write_process(tmp_path, os.getpid(), 41, "arc-kaggle solve", 99 * ticks)
    write_process(tmp_path, 41, 40, "sh -c arc-kaggle")
    write_process(tmp_path, 40, 1, command, 30 * ticks)
    write_process(tmp_path, 1, 0, "init")
    (tmp_path / "uptime").write_text("100.00 50.00\n")
    assert seconds_since_kernel_start({}, tmp_path) == seconds


def test_without_a_kernel_or_without_proc_the_clock_begins_now(tmp_path: Path) -> None:
    assert seconds_since_kernel_start({}, tmp_path / "nowhere") == 0.0
    write_process(tmp_path, os.getpid(), os.getpid(), "its own parent")
    assert seconds_since_kernel_start({}, tmp_path) == 0.0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_a_real_process_under_a_real_kernel_knows_its_age(tmp_path: Path) -> None:
    """A script by the name of the kernel waits, then starts a child, as a notebook's cell does."""
    kernel = tmp_path / "ipykernel_launcher.py"
    question = "from arc_kaggle.system.deadline import *; print(seconds_since_kernel_start({}))"
    kernel.write_text(
        f"import subprocess, sys, time\ntime.sleep(0.2)\nsubprocess.run([sys.executable, '-c', {question!r}])"
    )
    started = time.monotonic()
    command = [sys.executable, str(kernel)]
    root = str(Path(__file__).parents[2])
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": root})
    assert 0.18 <= float(run.stdout) <= time.monotonic() - started + 0.02
