"""Time as an argument: a `Deadline` that reads an injected clock; and when the clock of a notebook began."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from arc_kaggle.errors import ConfigError

Clock = Callable[[], float]
"""Returns seconds on a scale that only moves forward."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which everything must be on disk."""

    at_s: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Clock = time.monotonic) -> Deadline:
        return cls(clock() + seconds, clock)

    @classmethod
    def never(cls) -> Deadline:
        return cls(inf)

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self.at_s - self.clock()

    @property
    def passed(self) -> bool:
        return self.seconds_left <= 0

    def earlier(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at_s, self.clock() + seconds), self.clock)


STARTED = "ARC_KAGGLE_STARTED"
"""Environment variable: the Unix time in seconds at which the notebook's kernel started."""
KERNELS = (b"ipykernel_launcher", b"ipykernel", b"colab_kernel_launcher")
"""Modules that a Jupyter kernel runs: words of its command line."""
MOST_PARENTS = 32


def seconds_since_kernel_start(
    environment: Mapping[str, str] = os.environ, proc: Path = Path("/proc"), clock: Clock = time.time
) -> float:
    """Seconds since the notebook's kernel started, so that a deadline counts what ran before this call.

    By the environment variable ARC_KAGGLE_STARTED where it is set; else by the nearest process, this one or a parent,
    that is a Jupyter kernel, on Linux; else 0. Raises ConfigError for a variable that is no time in the past.
    """
    text = environment.get(STARTED, "")
    if not text:
        return _kernel_age(proc)
    try:
        seconds = clock() - float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise ConfigError(
            f"environment variable {STARTED}: found {text!r}, expected the Unix time in seconds at which the notebook "
            "started, such as that of `date +%s`; set it right, or unset it"
        )
    return seconds


def _kernel_age(proc: Path) -> float:
    """Seconds since the start of the kernel that this process belongs to; 0 where there is none, or no /proc."""
    try:
        process = str(os.getpid())
        for _ in range(MOST_PARENTS):
            fields = (proc / process / "stat").read_text().rpartition(")")[2].split()  # from the third field on
            if _is_kernel((proc / process / "cmdline").read_bytes()):
                uptime = float((proc / "uptime").read_text().split()[0])
                return max(0.0, uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
            process = fields[1]
    except (OSError, ValueError, IndexError):  # not Linux, no right to look, or the first process is reached
        pass
    return 0.0


def _is_kernel(command: bytes) -> bool:
    return any(word.rpartition(b"/")[2].removesuffix(b".py") in KERNELS for word in command.split(b"\0"))
