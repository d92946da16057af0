"""The questions that `arc-kaggle doctor` asks the machine, as values, so that tests can give other answers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from arc_kaggle.kaggle.commands import environment
from arc_kaggle.system.hardware import Gpu, find_gpus
from arc_kaggle.system.processes import last_words

CHILD_SECONDS = 300.0
"""Most seconds for a child process."""
TIMED_OUT = 124
"""The exit code of a process that was ended for it, as `timeout` gives it."""


@dataclass(frozen=True, slots=True)
class Child:
    """What a child process came to."""

    code: int
    out: str
    error: str

    @property
    def last_words(self) -> str:
        return f"its process ended {last_words(self.code, self.error)}"


def run_module(module: str, *words: str) -> Child:
    """Run a module of this package in a process of its own; one that does not end is ended."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"arc_kaggle.{module}", *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Child(TIMED_OUT, "", f"no answer in {CHILD_SECONDS:.0f} s")
    return Child(done.returncode, done.stdout, done.stderr)


def connects() -> bool:
    """Whether there is a network."""
    try:
        socket.create_connection(("www.kaggle.com", 443), timeout=3).close()
    except OSError:
        return False
    return True


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def requirements() -> Sequence[str]:
    """What the installed package says it needs; nothing where it is used from its source folder."""
    try:
        return requires("arc_kaggle") or ()
    except PackageNotFoundError:
        return ()


@dataclass(frozen=True, slots=True)
class Probes:
    """How the world is asked; tests put their own answers in its place."""

    python: tuple[int, int] = sys.version_info[:2]
    gpus: Callable[[], tuple[Gpu, ...]] = find_gpus
    connects: Callable[[], bool] = connects
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    version_of: Callable[[str], str | None] = version_of
    requirements: Callable[[], Sequence[str]] = requirements
    run_module: Callable[..., Child] = run_module


def ask_torch(probes: Probes, system: Path) -> tuple[dict[str, Any], Child]:
    """The facts that a process with torch told before it ended, and how it ended."""
    child = probes.run_module("kaggle.torch_probe", str(system))
    facts: dict[str, Any] = {}
    for line in child.out.splitlines():
        if line.startswith("{"):
            facts |= json.loads(line)
    return facts, child
