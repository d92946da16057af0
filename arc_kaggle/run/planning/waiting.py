"""The tasks that wait for a worker, and which of them is next: what is worth most, as far as it still fits."""

from __future__ import annotations

from arc_kaggle.run.planning.jobs import Job, Stage
from arc_kaggle.run.planning.options import Option, Options, TaskState
from arc_kaggle.run.planning.queue import Key, Queue

LOOKS = 4
"""Most tasks that a decision looks at in one queue, unless it is the last."""
FIRST: tuple[Stage, ...] = ("quick",)
LATER: tuple[Stage, ...] = ("tune", "answer", "score")


class Waiting:
    """Queues of tasks: one for each stage, whose first tasks are compared by what a second of them gains, and one by
    what the smallest form of the next stage needs, for when time is short.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.price = 0.0
        """The price of a second: the gain that it would bring elsewhere (see Backlog)."""
        self.ended: dict[str, str] = {}
        """For each task without a job the reason, if it is known."""
        self._states: dict[str, TaskState] = {}
        self._by_worth: dict[Stage, Queue] = {stage: Queue() for stage in (*FIRST, *LATER)}
        self._by_need = {FIRST: Queue(), LATER: Queue()}

    def push(self, state: TaskState) -> None:
        """Queue a task by its next stage, if it has one."""
        option, task_id = self.best(state), state.size.task_id
        if option is None:
            self.ended[task_id] = "every stage is done"
            return
        self._states[task_id] = state
        self._by_worth[option.stage].push(task_id, self.options.rank(state, option))
        self._by_need[LATER if state.quick else FIRST].push(task_id, self._need_key(state, option))

    def remove(self, task_id: str) -> None:
        for queue in (*self._by_worth.values(), *self._by_need.values()):
            queue.remove(task_id)

    def best(self, state: TaskState) -> Option | None:
        return self.options.best(state, self.price)

    def take(self, seconds_left: float, looks: int = LOOKS) -> Job | None:
        """Remove and return the next job. As long as a quick answer fits, nothing else starts."""
        for stages in (FIRST, LATER):
            job = self._worthiest(stages, seconds_left) or self._smallest(stages, seconds_left, looks)
            if job:
                self.remove(job.task_id)
                return job
        return None

    def fitting(self, state: TaskState, seconds_left: float) -> Job | None:
        """The best next stage of a task as a job that ends in time; where there is none it is kept why."""
        option, task_id = self.best(state), state.size.task_id
        job = self.options.fitting(state, option, seconds_left) if option else None
        if job:
            self.ended.pop(task_id, None)
        elif option:
            need = f"{option.least_seconds:.1f} s or more, {max(seconds_left, 0):.1f} s left"
            self.ended[task_id] = f"no time for {option.stage}: {need}"
        return job

    def _worthiest(self, stages: tuple[Stage, ...], seconds_left: float) -> Job | None:
        """The job of the largest worth that fits. A task whose job does not fit stays in the queue by need alone."""
        for _ in range(LOOKS):
            heads = [self._states[task_id] for stage in stages if (task_id := self._by_worth[stage].first) is not None]
            if not heads:
                return None
            state = max(heads, key=self._worth)
            job = self.fitting(state, seconds_left)
            if job:
                return job
            for stage in stages:
                self._by_worth[stage].remove(state.size.task_id)
        return None

    def _worth(self, state: TaskState) -> float:
        option = self.best(state)
        return option.worth / 2**state.n_lost if option else 0.0

    def _smallest(self, stages: tuple[Stage, ...], seconds_left: float, looks: int) -> Job | None:
        """The job that needs least time, if it fits: close to the deadline, and after estimates have come down."""
        queue, looked = self._by_need[stages], list[str]()
        job = None
        while job is None and len(looked) < looks and (task_id := queue.pop()):
            job = self.fitting(self._states[task_id], seconds_left)
            looked.append(task_id)
        for task_id in looked:
            option = self.best(self._states[task_id])
            queue.push(task_id, self._need_key(self._states[task_id], option) if option else ())
        return job

    def _need_key(self, state: TaskState, option: Option) -> Key:
        if option.stage == "quick":
            return self.options.rank(state, option)[1:]
        return (option.least_seconds,)
