"""The workers of a run: started one after another, watched for silence and for memory, ended in time."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from arc_kaggle.errors import WorkerError
from arc_kaggle.run.messages import (
    Done,
    Failed,
    Gone,
    Inbox,
    Message,
    Order,
    PredictionFound,
    Ready,
    Refused,
    ScoreFound,
    Worker,
)
from arc_kaggle.run.planning.jobs import Job
from arc_kaggle.system.deadline import Deadline

START_SECONDS = 600.0
"""Most seconds for a worker to load its model."""
TICK_SECONDS = 0.2
"""How often silence and memory are looked at."""
SILENT = "the worker did not answer in time"


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of a run: how many there are, how one is started, and what they may hold together."""

    n_workers: int
    start: Callable[[int, Inbox], Worker]
    ceiling: float
    """Bytes of host memory."""
    scratch: Path
    """Their folder for adapters and caches."""


@dataclass(slots=True, eq=False)
class Slot:
    """The place of a worker, which is filled again when the worker is lost."""

    number: int
    worker: Worker | None = None
    ready: bool = False
    job: Job | None = None
    since: float = 0.0
    """When the job was handed over, on the deadline's clock."""
    until: Deadline = field(default_factory=Deadline.never)
    """When the worker counts as hung; never while it has nothing to do."""
    failed_starts: int = 0
    held_bytes: int = 0
    """Memory at the last look."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker was lost, and its job with it."""

    reason: str
    seconds: float
    """Of the job."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job has ended, or a worker that had none was lost."""

    job: Job | None
    how: Done | Failed | Lost


Heard = Ready | PredictionFound | ScoreFound | Ended


class Pool:
    """A slot for each worker. What the workers say comes from `poll`."""

    def __init__(self, crew: Crew, deadline: Deadline, max_starts: int) -> None:
        self.slots = [Slot(number) for number in range(crew.n_workers)]
        self.start, self.deadline, self.ceiling, self.max_starts = crew.start, deadline, crew.ceiling, max_starts
        self.inbox: Inbox = queue.SimpleQueue()
        self._last_look = -inf

    @property
    def vacant(self) -> Slot | None:
        """A slot whose worker can be started now: none as long as one is loading, for two would race for memory."""
        if self.loading:
            return None
        empty = (slot for slot in self.slots if slot.worker is None and slot.failed_starts < self.max_starts)
        return next(empty, None)

    @property
    def loading(self) -> Slot | None:
        """The slot whose worker loads its model, if there is one."""
        return next((slot for slot in self.slots if slot.worker and not slot.ready), None)

    @property
    def idle(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.ready and slot.job is None]

    @property
    def busy(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.job is not None]

    def fill(self, slot: Slot) -> None:
        """Start the worker of a vacant slot."""
        slot.until = self.deadline.earlier(START_SECONDS)
        slot.worker = self.start(slot.number, self.inbox)

    def send(self, slot: Slot, job: Job, order: Order, seconds: float) -> None:
        """Hand a job over; the worker is lost when it has not ended it after `seconds`."""
        assert slot.worker is not None
        slot.job, slot.since, slot.until = job, self.deadline.clock(), self.deadline.earlier(seconds)
        slot.worker.send(order)

    def poll(self, seconds: float = TICK_SECONDS) -> Iterator[tuple[Slot, Heard]]:
        """Messages that are there, after waiting so long for the first; then who was lost for silence or memory.

        Raises WorkerError where no worker can be started.
        """
        for worker, message in self._waiting(seconds):
            slot = next((slot for slot in self.slots if slot.worker is worker), None)
            if slot is not None:  # else of a worker that was ended
                yield slot, self._heard(slot, message)
        now = self.deadline.clock()
        if now - self._last_look >= TICK_SECONDS:
            self._last_look = now
            yield from [(slot, self._lose(slot, SILENT)) for slot in self.slots if slot.worker and slot.until.passed]
            if fat := self._over_ceiling():
                yield fat, self._lose(fat, f"over the ceiling of {self.ceiling / 2**20:.0f} MiB of memory")

    def _waiting(self, seconds: float) -> Iterator[tuple[Worker, Message]]:
        try:
            yield self.inbox.get(timeout=max(0.0, min(seconds, self.deadline.seconds_left)))
            while True:
                yield self.inbox.get_nowait()
        except queue.Empty:
            return

    def _heard(self, slot: Slot, message: Message) -> Heard:
        match message:
            case Refused():
                raise WorkerError(f"the worker could not start: {message.message}")
            case Gone():
                return self._lose(slot, message.reason)
            case Done() | Failed():
                job, slot.job, slot.until = slot.job, None, Deadline.never()
                return Ended(job, message)
            case Ready():
                slot.ready, slot.failed_starts, slot.until = True, 0, Deadline.never()
        return message

    def _lose(self, slot: Slot, reason: str) -> Ended:
        assert slot.worker is not None
        slot.worker.kill()
        lost = Ended(slot.job, Lost(reason, self.deadline.clock() - slot.since))
        slot.failed_starts += 0 if slot.ready else 1
        slot.worker, slot.job, slot.ready, slot.held_bytes = None, None, False, 0
        if all(each.failed_starts >= self.max_starts for each in self.slots) and not self.deadline.passed:
            raise WorkerError(f"the worker could not start: {reason}")
        return lost

    def _over_ceiling(self) -> Slot | None:
        """The worker that holds most memory, where all together hold more than they may."""
        alive = [slot for slot in self.slots if slot.worker]
        for slot in alive:
            slot.held_bytes = slot.worker.held_bytes() if slot.worker else 0
        if sum(slot.held_bytes for slot in alive) <= self.ceiling:
            return None
        return max(alive, key=lambda slot: slot.held_bytes)

    def close(self) -> Iterator[tuple[Slot, Heard]]:
        """End all workers now; gives what they had said until then."""
        for slot in self.slots:
            if slot.worker is not None:
                slot.worker.kill()
        for worker, message in self._waiting(0.0):
            for slot in self.slots:
                if slot.worker is worker and isinstance(message, PredictionFound | ScoreFound | Done | Failed):
                    yield slot, self._heard(slot, message)
