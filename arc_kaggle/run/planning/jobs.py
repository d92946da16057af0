"""What is planned, as values: the size of a task, a job for a worker, what came of it, and the options of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import Any, Literal

from arc_kaggle.errors import ConfigError

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
        return {**asdict(self), "views": list(self.views)}

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
        return {name: None if isnan(value) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, float | None]) -> Outcome:
        return cls(**{name: nan if share is None else share for name, share in value.items()})


@dataclass(frozen=True, slots=True)
class PlanConfig:
    """How a run's time is divided among its tasks."""

    quick_views: int = 2
    """Views of the first, untuned answer that every task gets."""
    first_views: int = 8
    """Views of a task's first answer after fine-tuning; fewer where there is too little time for all tasks."""
    most_views: int = 32
    """Most views of a task, where time is left."""
    score_views: int = 8
    """Views under which candidates are scored; nothing is scored where 0."""
    tune: bool = True
    """Whether tasks are fine-tuned at all."""
    quick_seconds: float = 600.0
    """Most seconds of a quick answer."""
    tune_seconds: float = 600.0
    """Most seconds of fine-tuning a task."""
    answer_seconds: float = 600.0
    """Most seconds of one answer of a task."""
    score_seconds: float = 300.0
    """Most seconds of scoring a task."""
    max_tries: int = 4
    """Times that jobs of a task may be lost; after that it keeps what it has."""
    untuned_level: int = 3
    """From this level on a task is not fine-tuned any more."""

    def __post_init__(self) -> None:
        counts = (
            ("quick_views", self.quick_views, 1),
            ("first_views", self.first_views, 1),
            ("most_views", self.most_views, self.first_views),
            ("score_views", self.score_views, 0),
            ("max_tries", self.max_tries, 1),
            ("untuned_level", self.untuned_level, 0),
        )
        for name, value, least in counts:
            if value < least:
                raise ConfigError(f"option plan.{name}: found {value}, expected {least} or more")
        for stage in ("quick", "tune", "answer", "score"):
            if not self.cap(stage) > 0:
                raise ConfigError(f"option plan.{stage}_seconds: found {self.cap(stage)}, expected more than 0 seconds")

    def cap(self, stage: Stage) -> float:
        """Most seconds of a job of this stage."""
        seconds: float = getattr(self, f"{stage}_seconds")
        return seconds
