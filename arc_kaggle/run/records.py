"""The records of a run, as values: what every job came to, and what a task took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from arc_kaggle.run.planning.jobs import Job, Outcome
from arc_kaggle.tuning.outcome import TuneReport

Author = Literal["model", "rule", "guess"]
"""Who gave an attempt: the model, a simple rule that holds for all train pairs, or a guess of the right size."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a task took, as its worker tells it."""

    task_id: str
    tune: TuneReport
    infer_seconds: float
    """Seconds of answering and scoring."""
    reasons: dict[str, int]
    """How many predictions were `answered`, and how many had no grid, by reason."""
    dropped_pairs: int
    """Train pairs left out of the longest prompt."""
    peak_memory_mib: float = 0.0
    """Most memory that the worker ever held until then, MiB."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskRun:
        return cls(**{**value, "tune": TuneReport.from_json(value["tune"])})


@dataclass(frozen=True, slots=True)
class StageRun:
    """One job of a task and what came of it."""

    job: Job
    worker: int
    """Number of the worker that did it."""
    at_seconds: float
    """When it ended, in seconds of the run, the time of earlier runs into the same folder included."""
    outcome: Outcome
    """Of a lost job only the seconds."""
    lost: str = ""
    """Why nothing came of it; empty where something did."""
    tune: TuneReport | None = None
    dropped_pairs: int = 0
    """Train pairs left out of the longest prompt."""
    peak_memory_mib: float = 0.0
    """Most memory that the worker ever held until then, MiB."""
    note: str = ""
    """What went otherwise than wished, such as an adapter that found no room."""
    n_lines: int = 0
    """Lines of the task's file of predictions, or of scores, when it ended."""

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job.to_json(),
            "worker": self.worker,
            "at_seconds": self.at_seconds,
            "outcome": self.outcome.to_json(),
            "lost": self.lost,
            "tune": None if self.tune is None else asdict(self.tune),
            "dropped_pairs": self.dropped_pairs,
            "peak_memory_mib": self.peak_memory_mib,
            "note": self.note,
            "n_lines": self.n_lines,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageRun:
        tune = TuneReport.from_json(value["tune"]) if value["tune"] else None
        job, outcome = Job.from_json(value["job"]), Outcome.from_json(value["outcome"])
        return cls(**{**value, "job": job, "outcome": outcome, "tune": tune})


def task_run(task_id: str, stages: Sequence[StageRun], reasons: Mapping[str, int]) -> TaskRun | None:
    """What the finished stages of a task took; None where none was finished."""
    done = [stage for stage in stages if not stage.lost]
    if not done:
        return None
    tuned = [stage.tune for stage in done if stage.tune] or [TuneReport(False, "not fine-tuned")]
    seconds = sum(stage.outcome.seconds for stage in done if stage.job.stage != "tune")
    dropped, peak = max(stage.dropped_pairs for stage in done), max(stage.peak_memory_mib for stage in done)
    return TaskRun(task_id, tuned[-1], seconds, dict(reasons), dropped, peak)


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One row of the table. `verdict` is `solved`, `not scored`, or says why not; `run` is None without an answer.

    What a simple rule or a guess solved is told apart: `solved by a rule, not by the model`.
    """

    task_id: str
    verdict: str
    tries: int
    run: TaskRun | None
    stages: tuple[StageRun, ...] = ()
    """All jobs of the task in the order in which they ended."""
    ended: str = ""
    """Why the plan started nothing more of it."""
    solved_by: tuple[Author | None, ...] = ()
    """Who gave the right attempt, for each test input; None where none was right, or the answer is not known."""

    @property
    def answered(self) -> bool:
        """Whether the model gave a grid for any of its test inputs."""
        return self.run is not None and self.run.reasons.get("answered", 0) > 0

    def to_json(self) -> dict[str, Any]:
        return {
            "task_id": self.task_id,
            "verdict": self.verdict,
            "solved_by": list(self.solved_by),
            "tries": self.tries,
            "run": None if self.run is None else asdict(self.run),
            "stages": [stage.to_json() for stage in self.stages],
            "ended": self.ended,
        }
