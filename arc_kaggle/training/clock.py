"""The time of a training run, over all its parts."""

from __future__ import annotations

import time


class Clock:
    """Seconds of a run with all its earlier parts, and how much of its time is used.

    A part that goes on begins with the share that was used before it, and spreads the rest over the time that is left.
    """

    def __init__(self, started: float, max_minutes: float | None) -> None:
        self.started, self.max_minutes = started, max_minutes
        self.seconds_before = self.first_second = self.first_share = self.saving_seconds = 0.0

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def begin(self, time_share: float) -> None:
        """The first step of this part comes now; `time_share` was used before it."""
        self.first_second, self.first_share = self.seconds, time_share

    def took_to_save(self, seconds: float) -> None:
        """Set half as much again aside for the last saving."""
        self.saving_seconds = max(self.saving_seconds, 1.5 * seconds)

    @property
    def time_share(self) -> float:
        """0..1, where 1 is when the last saving has to begin; 0 without a limit."""
        if self.max_minutes is None:
            return 0.0
        left = 60 * self.max_minutes - self.saving_seconds - self.first_second
        used = min(1.0, (self.seconds - self.first_second) / left) if left > 0 else 1.0
        return self.first_share + (1 - self.first_share) * used
