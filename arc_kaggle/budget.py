"""Time as an argument: a `Deadline` that reads an injected clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

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
