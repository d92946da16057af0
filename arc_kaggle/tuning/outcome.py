"""The report of fine-tuning on one task: whether its weights are used, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_ASKED_FOR = "no fine-tuning asked for"
"""The reason of a report of a run that does not tune."""
OUT_OF_MEMORY = "out of memory"
"""The reason of a report where memory of the host or of a device ran out."""


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What fine-tuning on a task came to."""

    tuned: bool
    """Whether the tuned weights answer; where not, the base model does."""
    reason: str = ""
    """Why the base model answers; of tuned weights, what their training was spared. Empty where nothing."""
    steps: int = 0
    """Optimizer steps that were taken."""
    first_loss: float | None = None
    """Loss of the first step in nats."""
    last_loss: float | None = None
    """Loss of the last step in nats."""
    seconds: float = 0.0
    cut_off: bool = False
    """Whether time ran out before the last configured step."""

    @property
    def text(self) -> str:
        """One phrase for people, such as `tuned (cut off after 3 steps)` or `base: one train pair`."""
        if not self.tuned:
            return f"base: {self.reason}"
        return f"tuned ({self.reason})" if self.reason else "tuned"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TuneReport:
        """Read what `dataclasses.asdict` gives, and reports of the time when `outcome` was one text."""
        if "outcome" not in value:
            return cls(**value)
        outcome, rest = value["outcome"], {name: each for name, each in value.items() if name != "outcome"}
        reason = outcome.removeprefix("base: ").removeprefix("tuned").strip(", ()")
        return cls(tuned=outcome.startswith("tuned"), reason=reason, cut_off="cut off" in outcome, **rest)
