"""What fine-tuning on a task came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What fine-tuning came to: `outcome` is `tuned`, or begins with `base:` and says why the base answers instead."""

    outcome: str
    steps: int = 0
    first_loss: float | None = None
    """Loss of the first step in nats."""
    last_loss: float | None = None
    """Loss of the last step in nats."""
    seconds: float = 0.0
