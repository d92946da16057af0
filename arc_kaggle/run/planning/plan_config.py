"""How a run's time is divided among its tasks: views and time caps of each stage, and how often a task may fail."""

from __future__ import annotations

from dataclasses import dataclass

from arc_kaggle.config.gentleness import UNTUNED_LEVEL
from arc_kaggle.errors import ConfigError
from arc_kaggle.run.planning.jobs import Stage


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
    untuned_level: int = UNTUNED_LEVEL
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
