"""The values of a plan: the size of a task, a job for a worker, and the outcome of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Literal

Stage = Literal["quick", "tune", "answer", "score"]
"""quick: answers of the untuned model under few views. tune: test-time fine-tuning. answer: more views, under the tuned
weights where there are any. score: the NLL of every candidate under the same views."""

WorkerId = str | int
"""The name or number of a worker, as the caller chooses it."""


@dataclass(frozen=True, slots=True)
class TaskSize:
    """The size of a task, which is known before any job has run."""

    task_id: str
    prompt_tokens: int
    """Tokens of the longest prompt of the task."""
    answer_tokens: int
    """Tokens of the longest grid of the task."""
    n_queries: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One stage of one task, for one worker."""

    task_id: str
    stage: Stage
    level: int
    """The level of gentleness: 0 as configured, and one more for every job of the task that was lost."""
    views: tuple[int, int]
    """First view and the one behind the last, of the task's views; (0, 0) in `tune`."""
    max_seconds: float
    """The cap: by then the worker stops and keeps what it has."""
    predicted_seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "stage": self.stage,
            "level": self.level,
            "views": list(self.views),
            "max_seconds": self.max_seconds,
            "predicted_seconds": self.predicted_seconds,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**{**value, "views": tuple(value["views"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a job. A share that its stage does not measure is NaN."""

    seconds: float
    agreement: float = nan
    """Share of the task's views, 0..1, that gave the leading candidate, in the query that agrees least."""
    margin: float = nan
    """The difference in votes of the first and the second candidate of that query, as a share of the views, 0..1."""

    def to_json(self) -> dict[str, float | None]:
        values = {"seconds": self.seconds, "agreement": self.agreement, "margin": self.margin}
        return {name: None if isnan(value) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, float | None]) -> Outcome:
        return cls(**{name: nan if share is None else share for name, share in value.items()})
