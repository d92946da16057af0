"""The record of a plan: every decision and what came of it, as JSON values; and a plan that repeats a recorded one."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arc_kaggle.run.planning.jobs import Job, Outcome, WorkerId

Record = Mapping[str, Any]
"""{"config": ..., "n_workers": ..., "events": [...]}: as `Planner.record` gives it and as JSON holds it.

An event is {"event": "start" | "done" | "lost", "at_s": s, "worker": w, "job": {...}} with the "outcome" of a done job
or the "seconds" and the "reason" of a lost one.
"""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A job of a task and its outcome."""

    job: Job
    worker: WorkerId
    seconds: float | None
    """Seconds that the job took; None as long as it runs."""
    result: str
    """One of `running`, `done`, and `lost: ` with the reason."""


@dataclass(slots=True)
class TaskPlan:
    """The jobs of a task in order, and why there were no more."""

    task_id: str
    steps: list[PlannedStage] = field(default_factory=list)
    ended: str = ""


def finished_steps(record: Record) -> list[tuple[WorkerId, Job, Outcome | None, float, str]]:
    """(worker, job, outcome or None where it was lost, seconds, reason) of every job that ended, in order."""
    found = []
    for event in record["events"]:
        if event["event"] == "start":
            continue
        outcome = Outcome.from_json(event["outcome"]) if event["event"] == "done" else None
        seconds = outcome.seconds if outcome else event["seconds"]
        found.append((event["worker"], Job.from_json(event["job"]), outcome, seconds, event.get("reason", "")))
    return found


class RecordedPlan:
    """Hands out the jobs that were done under a recorded plan, and no others: each task's in their order, whatever the
    number of workers, and without a clock.
    """

    def __init__(self, record: Record, max_tries: int = 4) -> None:
        self.max_tries = max_tries
        self._jobs: dict[str, deque[tuple[int, Job]]] = defaultdict(deque)
        for place, (_, job, outcome, _, _) in enumerate(finished_steps(record)):
            if outcome:
                self._jobs[job.task_id].append((place, job))
        self._ready = [(jobs[0][0], task_id) for task_id, jobs in self._jobs.items()]
        heapq.heapify(self._ready)
        self._pinned: dict[WorkerId, str] = {}
        self._running: set[str] = set()
        self._lost: dict[str, int] = defaultdict(int)

    def recall(self, record: Record) -> None:
        """Skip the jobs that an earlier part of the run has done."""
        for _, job, outcome, _, _ in finished_steps(record):
            jobs = self._jobs[job.task_id]
            if outcome and jobs and _same_work(jobs[0][1], job):
                jobs.popleft()
        self._ready = [(jobs[0][0], task_id) for task_id, jobs in self._jobs.items() if jobs]
        heapq.heapify(self._ready)

    def next_job(self, worker: WorkerId) -> Job | None:
        """The next job for a worker: the answer of the task that it has tuned, or what was done first of all."""
        if worker in self._pinned:
            task_id = self._pinned.pop(worker)
        elif self._ready:
            _, task_id = heapq.heappop(self._ready)
        else:
            return None
        self._running.add(task_id)
        return self._jobs[task_id][0][1]

    def probed(self, ktoken_seconds: float) -> None:
        """Do nothing: recorded jobs are done however long they take."""

    def give_back(self, worker: WorkerId, job: Job) -> None:
        """Return a job that was not started after all."""
        self._running.discard(job.task_id)
        self._push(job.task_id)

    def done(self, worker: WorkerId, job: Job, outcome: Outcome) -> None:
        """Take in that a job has ended."""
        jobs = self._jobs[job.task_id]
        jobs.popleft()
        self._running.discard(job.task_id)
        if jobs and job.stage == "tune":
            self._pinned[worker] = job.task_id
        else:
            self._push(job.task_id)

    def lost(self, worker: WorkerId, job: Job, seconds: float, reason: str) -> None:
        """Take in the loss of a job: it is repeated, or after `max_tries` losses the rest of its task is given up."""
        self._running.discard(job.task_id)
        self._lost[job.task_id] += 1
        if self._lost[job.task_id] >= self.max_tries:
            self._jobs[job.task_id].clear()
        self._push(job.task_id)

    def gone(self, worker: WorkerId) -> None:
        """Take in the loss of a worker: the task that it has tuned may be answered by any other one."""
        if worker in self._pinned:
            self._push(self._pinned.pop(worker))

    def _push(self, task_id: str) -> None:
        if self._jobs[task_id]:
            heapq.heappush(self._ready, (self._jobs[task_id][0][0], task_id))


def _same_work(a: Job, b: Job) -> bool:
    return (a.task_id, a.stage, a.views) == (b.task_id, b.stage, b.views)


def task_plans(record: Record, task_ids: Sequence[str]) -> dict[str, TaskPlan]:
    """The record by task, with the jobs that still run."""
    plans = {task_id: TaskPlan(task_id) for task_id in task_ids}
    for event in record["events"]:
        job = Job.from_json(event["job"])
        steps = plans[job.task_id].steps
        if event["event"] == "start":
            steps.append(PlannedStage(job, event["worker"], None, "running"))
            continue
        if steps and steps[-1].seconds is None:
            steps.pop()
        done = event["event"] == "done"
        seconds = event["outcome"]["seconds"] if done else event["seconds"]
        steps.append(PlannedStage(job, event["worker"], seconds, "done" if done else f"lost: {event['reason']}"))
    return plans
