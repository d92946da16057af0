"""Helpers for tests of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from in_process import InProcessWorker
from processes import write_tasks

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.evaluation.study.study import run_study
from arc_kaggle.evaluation.study.table import StudyRow

FAKE = ("engine=fake", "recipe=none", "generate.n-views=4")


def study_of(folder: Path, name: str = "sweep", n_tasks: int = 9, **options: Any) -> StudyConfig:
    """A study by the fake engine in parts of four puzzles, into `folder`/study."""
    chosen: dict[str, Any] = {"over": ("generate.n-views=1,4",), "set": FAKE, "part_size": 4, "seeds": 2, **options}
    return StudyConfig(name, tasks=str(write_tasks(folder, n_tasks)), out=folder / "study", **chosen)


def quietly(config: StudyConfig, **options: Any) -> tuple[list[StudyRow], list[str]]:
    lines: list[str] = []
    return run_study(config, lines.append, **{"start": InProcessWorker, **options}), lines


class Ticking:
    """Every look at it takes so many seconds."""

    def __init__(self, step: float) -> None:
        self.seconds, self.step = 0.0, step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds
