"""The messages between the supervisor and its workers, as values; between processes each is one line of JSON.

A worker is started with a `Setup` and says `Ready`, or `Refused`. For each `Order` it says `PredictionFound` and
`ScoreFound` as they come, and `Done` or `Failed` at the end. `Gone` is said for a worker whose process has ended.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.config.json import config_from_json, config_to_json
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.planning.jobs import Job
from arc_kaggle.tasks.task import Task, task_from_json, task_to_json
from arc_kaggle.tuning.outcome import TuneReport


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is started with."""

    config: SolveConfig
    scratch: Path
    """Its folder for adapters and caches."""

    def to_json(self) -> dict[str, Any]:
        return {"config": config_to_json(self.config), "scratch": str(self.scratch)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Setup:
        return cls(config_from_json(SolveConfig, value["config"]), Path(value["scratch"]))


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One job for a worker, and all that it has to know of its task."""

    job: Job
    task: Task
    """Without its solutions."""
    tuned: bool = False
    """Whether fine-tuning of the task went well."""
    predictions: tuple[Prediction, ...] = ()
    """All of the task for the stage `score`; for further answers those of earlier views, as drafts."""
    forget: tuple[str, ...] = ()
    """Ids of tasks whose adapters nobody wants any more."""
    seconds_left: float = float("inf")
    """Until the worker must have ended."""

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job.to_json(),
            "task": task_to_json(self.task),
            "tuned": self.tuned,
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "forget": list(self.forget),
            "seconds_left": self.seconds_left,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Order:
        job = Job.from_json(value["job"])
        return cls(
            job,
            task_from_json(job.task_id, value["task"]),
            value["tuned"],
            tuple(Prediction.from_json(each, "an order") for each in value["predictions"]),
            tuple(value["forget"]),
            value["seconds_left"],
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    seconds: float
    """From the start of the worker on."""
    ktoken_seconds: float = 0.0
    """Seconds that the model takes to read a thousand tokens on this machine; 0 where that was not tried."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot start, and no other can."""

    message: str
    """For the user."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictionFound:
    """A view of the task was answered, or could not be."""

    value: Prediction


@dataclass(frozen=True, slots=True, eq=False)
class ScoreFound:
    """A candidate was scored under a view."""

    value: CandidateScore


@dataclass(frozen=True, slots=True)
class Done:
    """A job has ended well, or at its cap."""

    seconds: float
    tune: TuneReport | None = None
    """Where the job fine-tuned."""
    dropped_pairs: int = 0
    """Train pairs left out of the longest prompt."""
    note: str = ""
    """What went otherwise than wished, such as an adapter that found no room."""
    peak_memory_mib: float = 0.0
    """Most memory that the worker ever held until then, MiB."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing came of a job, but its worker lives on."""

    reason: str
    seconds: float
    peak_memory_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Gone:
    """The worker's process has ended."""

    reason: str


Message = Ready | Refused | PredictionFound | ScoreFound | Done | Failed | Gone
"""What comes from a worker."""
EVENTS: dict[str, type[Message]] = {
    "ready": Ready,
    "refused": Refused,
    "prediction": PredictionFound,
    "score": ScoreFound,
    "done": Done,
    "failed": Failed,
    "gone": Gone,
}
"""The name of each kind of message in JSON."""
_NAMES = {kind: name for name, kind in EVENTS.items()}


def message_to_json(message: Message) -> dict[str, Any]:
    """A message as JSON values."""
    if isinstance(message, PredictionFound | ScoreFound):
        facts: dict[str, Any] = {"value": message.value.to_json()}
    else:
        facts = asdict(message)
    return {"event": _NAMES[type(message)], **facts}


def message_from_json(value: Mapping[str, Any]) -> Message:
    """The message that JSON values tell of."""
    facts = {name: each for name, each in value.items() if name != "event"}
    match value["event"]:
        case "prediction":
            return PredictionFound(Prediction.from_json(value["value"], "a worker"))
        case "score":
            return ScoreFound(CandidateScore.from_json(value["value"], "a worker"))
        case "done":
            return Done(**{**facts, "tune": TuneReport.from_json(value["tune"]) if value["tune"] else None})
        case event:
            return EVENTS[event](**facts)


def to_line(value: Mapping[str, Any]) -> bytes:
    """JSON values as one line, as it goes through a pipe."""
    return json.dumps(value).encode() + b"\n"


class Worker(Protocol):
    """Takes one job at a time; its messages go into the inbox that it was started with."""

    number: int

    def send(self, order: Order) -> None:
        """Hand over a job; never waits."""
        ...

    def held_bytes(self) -> int:
        """Memory of the host that it holds."""
        ...

    def kill(self) -> None:
        """End it now, whatever it is doing."""
        ...


Inbox = queue.SimpleQueue[tuple[Worker, Message]]
"""Where messages of all workers come in."""
Start = Callable[[int, Inbox, Setup], Worker]
"""Begins the worker of a number, whose messages go into the inbox."""
