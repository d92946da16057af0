"""What other programs took of the machine while something was timed, for hours hold for a load like that alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from arc_kaggle.system.hardware import n_cores
from arc_kaggle.system.threads import others_busy

Look = tuple[float, float]
"""Seconds on a clock, and seconds for which other programs have kept this process' cores busy."""
LEAST_SECONDS, LEAST_CORES = 1.0, 0.25
"""Less than this says nothing."""


def others_look() -> Look:
    """A look at the others; child processes that have ended are none of them. Nothing is seen but on Linux."""
    if sys.platform != "linux":
        return 0.0, 0.0
    now, busy = others_busy()
    times = os.times()
    return now, busy - times.children_user - times.children_system


@dataclass(slots=True)
class Load:
    """What others take from now on."""

    look: Callable[[], Look] = others_look
    begun: Look = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.look()

    def __str__(self) -> str:
        """A remark on hours that were told meanwhile; nothing where the machine was free."""
        seconds, busy = (now - then for now, then in zip(self.look(), self.begun, strict=True))
        cores = busy / seconds if seconds >= LEAST_SECONDS else 0.0
        if cores < LEAST_CORES:
            return ""
        return f"; measured while other programs took {cores:.1f} of {n_cores()} cores, and as long as they do"
