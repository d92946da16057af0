"""What is planned, as values: the size of a task, a job for a worker, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Literal

Stage = Literal["quick", "tune", "answer", "score"]
"""quick: answers of the untuned model under few views. tune: test-time fine-tuning. answer: more views, under the tuned
weights where there are any. score: the NLL of every candidate under the same views."""

WorkerId = str | int
"""Whatever the caller calls a worker by."""


@dataclass(frozen=True, slots=True)
class TaskSize:
    """What is known of a task before anything has run."""

    task_id: str
    prompt_tokens: int
    """Of its longest prompt."""
    answer_tokens: int
    """Of its longest grid."""
    n_queries: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One stage of one task, for one worker."""

    task_id: str
    stage: Stage
    level: int
    """0 as configured; it rises each time that a job of the task is lost, and a higher one is gentler."""
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
    """What came of a job. Where its stage says nothing of a share it is NaN."""

    seconds: float
    agreement: float = nan
    """Share of the task's views, 0..1, that gave the leading candidate, in the query that agrees least."""
    margin: float = nan
    """Between the first and the second candidate in votes as a share of the views, 0..1, in that query."""

    def to_json(self) -> dict[str, float | None]:
        values = {"seconds": self.seconds, "agreement": self.agreement, "margin": self.margin}
        return {name: None if isnan(value) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, float | None]) -> Outcome:
        return cls(**{name: nan if share is None else share for name, share in value.items()})
