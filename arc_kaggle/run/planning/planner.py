"""The planner: which job a worker gets next. It decides; it starts nothing and reads no clock but its deadline's.

First every task gets a quick answer, short ones first; then time goes where it gains most solved tasks a second, up to
the most views. Nothing starts that cannot end before the deadline. A decision looks at a few tasks, never at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from arc_kaggle.run.planning.backlog import NO_ANSWER, Backlog
from arc_kaggle.run.planning.costs import CostConfig, Costs
from arc_kaggle.run.planning.jobs import Job, Outcome, Stage, TaskSize, WorkerId
from arc_kaggle.run.planning.options import Options, TaskState
from arc_kaggle.run.planning.plan_config import PlanConfig
from arc_kaggle.run.planning.record import Record, TaskPlan, finished_steps, task_plans
from arc_kaggle.run.planning.waiting import Waiting
from arc_kaggle.system.deadline import Deadline

__all__ = ["Job", "Outcome", "PlanConfig", "Planner", "Stage", "TaskSize", "WorkerId"]


CUT = 0.95
"""A job that took at least this share of its time cap counts as cut off by it."""


class Planner:
    """The plan of a run, made as it goes: `next_job`, then `done` or `lost`."""

    def __init__(
        self,
        sizes: Sequence[TaskSize],
        config: PlanConfig,
        n_workers: int,
        deadline: Deadline,
        costs: CostConfig | None = None,
    ) -> None:
        self.config, self.n_workers, self.deadline = config, n_workers, deadline
        self.costs = Costs(costs or CostConfig())
        self.states = {size.task_id: TaskState(size) for size in sizes}
        self.events: list[dict[str, Any]] = []
        self._started_s = deadline.clock()
        self._running: dict[str, Job] = {}
        self._pinned: dict[WorkerId, str] = {}
        self._given_up: set[str] = set()
        self._over = False
        self._waiting = Waiting(Options(config, self.costs))
        self._backlog = Backlog(self.costs, config)
        for state in self.states.values():
            self._backlog.count(state.size, NO_ANSWER, 1)
        self._set_price()
        for state in self.states.values():
            self._waiting.push(state)

    def next_job(self, worker: WorkerId) -> Job | None:
        """The next job for a worker; None where nothing can start now."""
        left = self.deadline.seconds_left
        self._set_price()
        job = self._pinned_job(worker, left) or self._waiting.take(left)
        if not job and not self._running and not self._over:  # before it ends it looks at everything, once
            job = self._waiting.take(left, len(self.states))
            self._over = job is None
        if job:
            self._running[job.task_id] = job
            self._log("start", worker, job)
        return job

    def probed(self, ktoken_seconds: float) -> None:
        """Take in the measured prefill time of a thousand tokens in seconds, 0 if unknown. Measured jobs count more."""
        if ktoken_seconds and not any(line.n for line in self.costs.lines.values()):
            self.costs.probed(ktoken_seconds)

    def give_back(self, worker: WorkerId, job: Job) -> None:
        """Return a job that was not started after all; its task waits again."""
        self._running.pop(job.task_id)
        self.events.pop()
        self._waiting.push(self.states[job.task_id])

    def done(self, worker: WorkerId, job: Job, outcome: Outcome) -> None:
        """Take in the outcome of a job that has ended, perhaps at its time cap."""
        self._log("done", worker, job, outcome=outcome.to_json())
        self._take(worker, job, outcome)

    def lost(self, worker: WorkerId, job: Job, seconds: float, reason: str) -> None:
        """Take in the loss of a job: it is repeated at a gentler level, until its task has lost `max_tries` jobs."""
        self._log("lost", worker, job, seconds=seconds, reason=reason)
        self._take_loss(job, reason)

    def gone(self, worker: WorkerId) -> None:
        """Take in the loss of a worker: the task that it has tuned may be answered by any other one."""
        if worker in self._pinned:
            self._waiting.push(self.states[self._pinned.pop(worker)])

    def recall(self, record: Record) -> None:
        """Go on after what an earlier part of the run has done, as its record says."""
        for worker, job, outcome, _, reason in finished_steps(record):
            if outcome:
                self._take(worker, job, outcome)
            else:
                self._take_loss(job, reason)
        for worker in list(self._pinned):
            self.gone(worker)
        self.events += [event for event in record["events"] if event["event"] != "start"]

    def record(self) -> Record:
        """Every decision and what came of it, as JSON values."""
        return {"config": asdict(self.config), "n_workers": self.n_workers, "events": self.events}

    def summary(self) -> list[TaskPlan]:
        """The stages of every task, and why it got no more of them."""
        plans = task_plans(self.record(), list(self.states))
        for task_id, plan in plans.items():
            plan.ended = self._waiting.ended.get(task_id, "" if task_id in self._running else "nothing more fitted")
        return list(plans.values())

    def _take(self, worker: WorkerId, job: Job, outcome: Outcome) -> None:
        state = self.states[job.task_id]
        self._running.pop(job.task_id, None)
        self._over = False
        self._waiting.remove(job.task_id)
        self._learn(state, job, outcome)
        self._backlog.count(state.size, _level(state), -1)
        state.take(job, outcome)
        self._backlog.count(state.size, _level(state), 1)
        self._set_price()
        if job.stage == "tune":
            self._pinned[worker] = job.task_id
        else:
            self._waiting.push(state)

    def _learn(self, state: TaskState, job: Job, outcome: Outcome) -> None:
        seconds = outcome.seconds
        if seconds >= CUT * job.max_seconds:  # it was cut: it would have taken longer
            seconds = max(seconds, job.predicted_seconds)
        self.costs.learn(job.stage, state.size, self._waiting.options.n_views(job.stage, job.views), seconds)

    def _take_loss(self, job: Job, reason: str) -> None:
        state = self.states[job.task_id]
        self._running.pop(job.task_id, None)
        self._over = False
        state.n_lost += 1
        state.level += 1
        if state.n_lost >= self.config.max_tries:
            self._end(state, f"lost {state.n_lost} times, the last time in {job.stage}: {reason}")
        else:
            self._waiting.push(state)

    def _end(self, state: TaskState, why: str) -> None:
        task_id = state.size.task_id
        self._waiting.remove(task_id)
        self._waiting.ended[task_id] = why
        self._given_up.add(task_id)
        self._backlog.count(state.size, _level(state), -1)

    def _pinned_job(self, worker: WorkerId, left: float) -> Job | None:
        """The answer of the task that this worker has tuned."""
        task_id = self._pinned.pop(worker, None)
        if task_id is None:
            return None
        state = self.states[task_id]
        job = self._waiting.fitting(state, left)
        if job is None:
            self._waiting.push(state)
        return job

    def _set_price(self) -> None:
        self._waiting.price = self._backlog.price(self.n_workers * self.deadline.seconds_left)

    def _log(self, event: str, worker: WorkerId, job: Job, **facts: Any) -> None:
        at_s = self.deadline.clock() - self._started_s
        self.events.append({"event": event, "at_s": at_s, "worker": worker, "job": job.to_json(), **facts})


def _level(state: TaskState) -> int:
    """The number of views by which a task is counted in the backlog."""
    return state.views if state.answered else NO_ANSWER
