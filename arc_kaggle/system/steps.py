"""Progress of a command that takes some time: on a terminal one line that is replaced, in a log a line a step.

It goes to stderr, so that what a command prints stays as it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

from tqdm import tqdm

from arc_kaggle.system.deadline import Clock

CLEAR = "\r\x1b[K"
"""Back to the beginning of the line, and nothing left of it."""
LOG_SECONDS = 10.0
"""Least time between two lines of a bar in a log."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Says what a command is doing. Call it with the name of each step as the step begins, and `done` at the end."""

    command: str
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Clock = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.clock())

    def __call__(self, step: str) -> None:
        line = f"{self.command}: {self.clock() - self.started:.0f} s, {step}"
        print(f"{CLEAR}{line} ..." if self.stream.isatty() else line, end=self._end, file=self.stream, flush=True)

    def done(self) -> None:
        """Leave the terminal's line empty for what the command prints next."""
        if self.stream.isatty():
            print(CLEAR, end="", file=self.stream, flush=True)

    @property
    def _end(self) -> str:
        return "" if self.stream.isatty() else "\n"


def bar(each: Iterable[Any] | None = None, stream: TextIO | None = None, **options: Any) -> tqdm[Any]:
    """tqdm on a terminal; in a log a line of its own for each state, every 10 s at most, without carriage returns."""
    stream = stream or sys.stderr
    if stream.isatty():
        return tqdm(each, file=stream, **options)
    seldom = {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS}
    return tqdm(each, file=_Lines(stream), **{**seldom, **options})


@dataclass(frozen=True, slots=True)
class _Lines:
    """A stream on which tqdm's states stand one below the other."""

    stream: TextIO

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=self.stream)

    def flush(self) -> None:
        self.stream.flush()
