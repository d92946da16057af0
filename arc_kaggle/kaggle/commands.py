"""Commands of `arc-kaggle` run in child processes, so that a notebook's kernel neither imports torch nor hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from arc_kaggle.errors import WorkerError
from arc_kaggle.kaggle.machines import Options, as_words
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.processes import python_path

STARTED_VARIABLE = "ARC_KAGGLE_STARTED"
"""Unix time from which a command counts its time limit."""
GRACE_SECONDS = 60.0
"""Seconds past its deadline after which a command is killed."""


class CommandError(WorkerError):
    """A command that failed. `code` is its exit code, or of what killed it the negative signal."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"arc-kaggle {command} ended with exit code {code}; its last lines above say why")
        self.code = code


def run(command: str, *words: str, options: Options | None = None, deadline: Deadline | None = None) -> None:
    """Run a command of `arc-kaggle` in a process of its own and show what it says. Raises CommandError.

    `options` are by dotted name, as in {"generate.n_views": 8}. With a deadline the command is killed some seconds
    after that, and everything it started with it.
    """
    words = (command, *words, *as_words(options or {}))
    print("arc-kaggle", *words, flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "arc_kaggle.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment(),
        start_new_session=True,
    )
    timer = threading.Timer(_patience(deadline), _kill, [process])
    timer.start()
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                print(line, end="", flush=True)
        code = process.wait()
    finally:
        timer.cancel()
        _kill(process)
    if code:
        raise CommandError(command, code)


def environment() -> dict[str, str]:
    """Of a child that finds this very package, and whose time limit counts from now."""
    return {**os.environ, "PYTHONPATH": python_path(), STARTED_VARIABLE: str(time.time())}


def _patience(deadline: Deadline | None) -> float:
    """Seconds that a command may take."""
    seconds = threading.TIMEOUT_MAX if deadline is None else deadline.seconds_left + GRACE_SECONDS
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a command and all that it started; its session has them alone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
