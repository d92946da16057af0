"""The next stage of a task: the one with the largest expected gain a second that ends before the deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan

from arc_kaggle.run.planning.costs import Costs
from arc_kaggle.run.planning.gain import PRIOR, UNSCORED, UNTUNED, Belief, found, observe, scoring_gain
from arc_kaggle.run.planning.jobs import Job, Outcome, Stage, TaskSize
from arc_kaggle.run.planning.plan_config import PlanConfig


@dataclass(slots=True)
class TaskState:
    """The state of a task: how far it is, and what its views say about its chance to be solved."""

    size: TaskSize
    level: int = 0
    n_lost: int = 0
    views: int = 0
    """Views answered under the present weights."""
    quick_views: int = 0
    """Views of the quick answer; 0 before it."""
    tuned: bool = False
    answered: bool = False
    scored_views: int = 0
    """Views that were answered when it was scored; 0 before."""
    planned_views: int = 0
    """Views of the answer for which fine-tuning was started."""
    belief: Belief = PRIOR
    untuned_belief: Belief = PRIOR
    """The belief after the quick answer alone."""
    margin: float = nan

    @property
    def quick(self) -> bool:
        """Whether the task has a quick answer."""
        return self.quick_views > 0

    @property
    def skill(self) -> float:
        return 1.0 if self.tuned else UNTUNED

    def take(self, job: Job, outcome: Outcome) -> None:
        """Update the state by a finished job."""
        if job.stage == "tune":
            self.tuned, self.answered, self.views = True, False, 0
        elif job.stage == "score":
            self.scored_views = self.views
        else:
            before = self.untuned_belief if self.tuned else PRIOR
            self.views, self.margin = job.views[1], outcome.margin
            self.belief = observe(before, self.views, outcome.agreement, outcome.margin, self.skill)
            if job.stage == "quick":
                self.quick_views, self.untuned_belief = self.views, self.belief
            else:
                self.answered = True


@dataclass(frozen=True, slots=True)
class Option:
    """A stage that could be next for a task; `tune` includes the answer that follows it."""

    stage: Stage
    views: tuple[int, int]
    """The first view and the one after the last; for `tune` they are those of the answer that follows."""
    gain: float
    seconds: float
    least_seconds: float
    """An upper estimate of its smallest form: that of a single view."""

    @property
    def worth(self) -> float:
        """The expected gain in solved tasks for each second."""
        return self.gain / self.seconds


LEAST_TUNED = 0.25
"""Least share of fine-tuning that is worth starting. If less fits, more answers of the untuned model come first."""
LEAST_TUNE_SECONDS = 1e-3
"""Seconds below which fine-tuning counts as none."""
MOST_QUICK = 0.05
"""Most seconds of a quick answer, as a share of the tuned answer that will replace it; but one view at least."""


class Options:
    """Chooses the next stage of a task by the options of a plan and by the cost model."""

    def __init__(self, config: PlanConfig, costs: Costs) -> None:
        self.config, self.costs = config, costs

    def best(self, state: TaskState, price: float) -> Option | None:
        """What to do next for a task; None where nothing is left. `price` is what a second is worth elsewhere: a first
        answer has as many views as pay it, and scoring comes when no more views do.
        """
        if not state.quick:
            return self._option(state, "quick", (0, self._quick_views(state)), 1.0)
        if options := self._tunes(state):
            payable = min(price, max(option.worth for option in options))
            return max(options, key=lambda option: option.gain - payable * option.seconds)
        return self._untuned(state, price)

    def _untuned(self, state: TaskState, price: float) -> Option | None:
        """The options without fine-tuning: more answers under the present weights, or scores."""
        answer, score = self._answer(state), self._score(state)
        if answer and score and answer.worth >= price:  # both in this order: else new candidates want scores, too
            return replace(answer, gain=answer.gain + score.gain, seconds=answer.seconds + score.seconds)
        return score or answer

    def _quick_views(self, state: TaskState) -> int:
        """The number of quick views that are cheap beside the tuned answer which will replace theirs."""
        if not self.config.tune:
            return self.config.quick_views
        tuned = self.costs.mean("tune", state.size) + self.costs.mean("answer", state.size, self.config.first_views)
        views = _halves(self.config.quick_views)
        return next((n for n in views if self.costs.mean("quick", state.size, n) <= MOST_QUICK * tuned), 1)

    def _tunes(self, state: TaskState) -> list[Option]:
        """Fine-tuning followed by so many views, most first. The tuned answers replace all untuned ones, or none."""
        config = self.config
        if not config.tune or state.tuned or state.level >= config.untuned_level:
            return []
        most = max(config.first_views, state.views) if state.answered else config.first_views
        options = [self._tune(state, n) for n in _halves(most) if n >= state.views or not state.answered]
        return [option for option in options if option.gain > 0 or not state.answered]

    def _tune(self, state: TaskState, n_views: int) -> Option:
        gain = found(state.belief, n_views) - found(state.belief, state.views, UNTUNED)
        answer_seconds = self.costs.mean("answer", state.size, n_views)
        return self._option(state, "tune", (0, n_views), UNSCORED * max(gain, 0), answer_seconds)

    def _answer(self, state: TaskState) -> Option | None:
        if state.views >= self.config.most_views:
            return None
        first = 0 if state.answered else state.planned_views or self.config.first_views
        stop = min(max(2 * state.views, first), self.config.most_views)
        gain = found(state.belief, stop, state.skill) - found(state.belief, state.views, state.skill)
        if not state.scored_views:
            return self._option(state, "answer", (state.views, stop), UNSCORED * gain)
        again = self.costs.mean("score", state.size, self.n_views("score", (0, stop)))  # new candidates want it, too
        return self._option(state, "answer", (state.views, stop), gain, again)

    def _score(self, state: TaskState) -> Option | None:
        if not self.config.score_views or not state.answered or state.scored_views >= state.views:
            return None
        gain = scoring_gain(found(state.belief, state.views, state.skill), state.margin)
        return self._option(state, "score", (0, state.views), gain)

    def _option(
        self, state: TaskState, stage: Stage, views: tuple[int, int], gain: float, more_seconds: float = 0
    ) -> Option:
        seconds = self.costs.mean(stage, state.size, self.n_views(stage, views)) + more_seconds
        least = self.costs.upper("answer" if stage == "tune" else stage, state.size)
        return Option(stage, views, gain, seconds, least)

    def n_views(self, stage: Stage, views: tuple[int, int]) -> int:
        """How many views a stage computes."""
        return min(views[1], self.config.score_views) if stage == "score" else views[1] - views[0]

    def rank(self, state: TaskState, option: Option) -> tuple[float, ...]:
        """Orders the tasks of one stage, smallest first: short quick answers before long ones, else by gain a token,
        which halves each time that a job is lost. By tokens and not by seconds it holds while estimates move.
        """
        one_view = self.costs.config.tokens("answer", state.size, 1) * self.costs.slowness(state.size)
        if option.stage == "quick":
            return state.n_lost, self.costs.config.tokens("quick", state.size, 1)
        if option.stage == "tune":
            return (-self._tune(state, self.config.first_views).gain / one_view / 2**state.n_lost,)
        return (-option.gain / (one_view * self.n_views(option.stage, option.views)) / 2**state.n_lost,)

    def fitting(self, state: TaskState, option: Option, seconds_left: float) -> Job | None:
        """The option as a job that ends in time: with fewer views where need be; None where not even that fits."""
        start, stop = option.views
        if option.stage == "tune":
            return self._tune_job(state, stop, seconds_left)
        if option.stage == "score":
            return self.job(state, "score", option.views, seconds_left)
        score = self._score(state) if option.stage == "answer" else None
        after = self.costs.upper("score", state.size, self.n_views("score", (0, stop))) if score else 0.0
        jobs = (self.job(state, option.stage, (start, start + n), seconds_left - after) for n in _halves(stop - start))
        job = next((job for job in jobs if job), None)
        return self.job(state, "score", score.views, seconds_left) if score and not job else job

    def _tune_job(self, state: TaskState, n_views: int, seconds_left: float) -> Job | None:
        """Fine-tuning with its answer, whole or cut. If too little of it fits, untuned answers come first."""
        untuned = self._untuned(state, 0.0)
        return (
            self._tune_within(state, n_views, seconds_left, 1.0)
            or self._tune_within(state, n_views, seconds_left, LEAST_TUNED)
            or (self.fitting(state, untuned, seconds_left) if untuned else None)
            or self._tune_within(state, n_views, seconds_left, 0.0)
        )

    def _tune_within(self, state: TaskState, n_views: int, seconds_left: float, share: float) -> Job | None:
        """Fine-tuning that leaves time for its answers, if this share of what it may take fits before them.

        It can be cut off at any step, so a part of it is worth having where the whole does not fit.
        """
        cap, mean = self.config.tune_seconds, self.costs.mean("tune", state.size)
        need = self.costs.upper("tune", state.size) if share == 1 else share * mean
        for n in _halves(n_views):
            left = seconds_left - min(self.costs.reserve("answer", state.size, n), self.config.answer_seconds)
            if left >= max(min(need, cap), LEAST_TUNE_SECONDS) and (n >= state.views or not state.answered):
                state.planned_views = n
                return Job(state.size.task_id, "tune", state.level, (0, 0), min(cap, left), min(mean, cap))
        return None

    def job(self, state: TaskState, stage: Stage, views: tuple[int, int], seconds_left: float) -> Job | None:
        """Make the job with its time cap, if it ends within `seconds_left`; else None."""
        cap, n_views = self.config.cap(stage), self.n_views(stage, views)
        if seconds_left <= 0 or min(self.costs.upper(stage, state.size, n_views), cap) > seconds_left:
            return None
        predicted = min(self.costs.mean(stage, state.size, n_views), cap)
        return Job(state.size.task_id, stage, state.level, views, min(cap, seconds_left), predicted)


def _halves(n: int) -> Iterator[int]:
    """Yields n, n / 2 and so on, down to 1."""
    while n:
        yield n
        n //= 2
