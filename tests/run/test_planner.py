"""The planner decides well and never too late, whatever jobs take and whoever dies."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf, isnan, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc_kaggle.errors import ConfigError
from arc_kaggle.run.planning.costs import CostConfig, Costs, Line, RunningLine
from arc_kaggle.run.planning.gain import CHANCES, PRIOR, UNSCORED, UNTUNED, found, observe, scoring_gain
from arc_kaggle.run.planning.jobs import Job, Outcome, TaskSize
from arc_kaggle.run.planning.options import Options, TaskState
from arc_kaggle.run.planning.plan_config import PlanConfig
from arc_kaggle.run.planning.planner import Planner
from arc_kaggle.run.planning.record import RecordedPlan
from arc_kaggle.system.deadline import Deadline

SHORT, LONG = TaskSize("short", 400, 30), TaskSize("long", 6000, 900)


@dataclass
class World:
    """A simulated run: a clock, workers, what jobs take against what is expected of them, and what goes wrong."""

    planner: Any
    n_workers: int
    seed: int = 0
    slowness: float = 1.0
    spread: float = 0.3
    """Of what a job takes, in logarithms."""
    loss_rate: float = 0.0
    stop_after: float = inf
    """Jobs that end before the run stops in the middle."""
    now: float = 0.0
    started: list[tuple[float, int, Job]] = field(default_factory=list)
    ended: list[tuple[float, int, Job, str]] = field(default_factory=list)
    busy: dict[int, tuple[float, Job, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def run(self) -> None:
        while len(self.ended) < self.stop_after:
            self.start_jobs()
            if not self.busy:
                return
            worker = min(self.busy, key=lambda name: (self.busy[name][0], name))
            self.now, job, how = self.busy.pop(worker)
            self.end_job(worker, job, how)

    def start_jobs(self) -> None:
        for worker in range(self.n_workers):
            job = self.planner.next_job(worker) if worker not in self.busy else None
            if job:
                seconds = true_seconds(job) * self.slowness * self.random.lognormvariate(0, self.spread)
                how = "killed" if self.random.random() < self.loss_rate else "done"
                self.started.append((self.now, worker, job))
                self.busy[worker] = (self.now + min(seconds, job.max_seconds), job, how)
            elif worker not in self.busy:
                assert self.planner._running or not self.busy

    def end_job(self, worker: int, job: Job, how: str) -> None:
        seconds = self.now - next(at for at, who, each in reversed(self.started) if who == worker and each == job)
        self.ended.append((self.now, worker, job, how))
        if how == "done":
            agreement = self.random.random()
            self.planner.done(worker, job, Outcome(seconds, agreement, agreement * self.random.random()))
        else:
            self.planner.lost(worker, job, seconds, how)


def true_seconds(job: Job) -> float:
    costs = CostConfig()
    n_views = min(job.views[1], 8) if job.stage == "score" else job.views[1] - job.views[0]
    line = costs.line(job.stage)
    return line.fixed_seconds + line.seconds_per_ktoken * costs.tokens(job.stage, size_of(job.task_id), n_views) / 1000


def size_of(task_id: str) -> TaskSize:
    """Sizes of tasks `0`, `1` ...: the same each time, some of them long."""
    draw = random.Random(task_id)
    return TaskSize(task_id, round(draw.lognormvariate(7, 0.8)), draw.randint(5, 930), draw.randint(1, 2))


def make(
    n_tasks: int, n_workers: int, budget: float, config: PlanConfig | None = None, **options: Any
) -> tuple[Planner, World]:
    world = World(None, n_workers, **options)
    sizes = [size_of(str(i)) for i in range(n_tasks)]
    world.planner = Planner(sizes, config or PlanConfig(), n_workers, Deadline(budget, lambda: world.now))
    return world.planner, world


def simulate(n_tasks: int, n_workers: int, budget: float, **options: Any) -> tuple[Planner, World]:
    planner, world = make(n_tasks, n_workers, budget, **options)
    world.run()
    return planner, world


class Strict(Planner):
    """A planner that checks each of its decisions."""

    def next_job(self, worker: Any) -> Job | None:
        left, running = self.deadline.seconds_left, {task_id for task_id in self._running}
        job = super().next_job(worker)
        if job:
            state = self.states[job.task_id]
            n_views = self._waiting.options.n_views(job.stage, job.views)
            assert job.task_id not in running, "two jobs of a task at once"
            assert 0 < job.max_seconds <= min(left, self.config.cap(job.stage))
            if job.stage != "tune":  # which can be cut to what fits
                assert min(self.costs.upper(job.stage, state.size, n_views), self.config.cap(job.stage)) <= left
            assert job.stage == "quick" or state.quick
            assert job.stage != "score" or state.answered
            if job.stage != "quick":
                self.assert_no_quick_answer_could_start(left, running)
        return job

    def assert_no_quick_answer_could_start(self, left: float, running: set[str]) -> None:
        for task_id, state in self.states.items():
            if not state.quick and task_id not in running and state.n_lost < self.config.max_tries:
                # 0.95: the doubt in an estimate does not always rise with size, so that by a hair the order can be off
                assert self.costs.upper("quick", state.size) > 0.95 * left, f"{task_id} starves"


runs = st.fixed_dictionaries(
    {
        "n_tasks": st.integers(1, 12),
        "n_workers": st.integers(1, 4),
        "budget": st.floats(0, 3000) | st.floats(0, 60),
        "seed": st.integers(0, 10**6),
        "slowness": st.floats(0.05, 20),
        "spread": st.floats(0, 1.5),
        "loss_rate": st.floats(0, 0.6),
    }
)
configs = st.builds(
    PlanConfig,
    quick_views=st.integers(1, 4),
    first_views=st.integers(1, 8),
    most_views=st.integers(8, 32),
    score_views=st.integers(0, 8),
    tune=st.booleans(),
    tune_seconds=st.floats(1, 600),
    answer_seconds=st.floats(1, 600),
    max_tries=st.integers(1, 5),
    untuned_level=st.integers(0, 4),
)


@settings(max_examples=300)
@given(runs, configs)
def test_whatever_happens_a_plan_ends_in_time_and_can_be_repeated(options: dict[str, Any], config: PlanConfig) -> None:
    planner, world = make(**options, config=config)
    world.planner = Strict([s.size for s in planner.states.values()], config, options["n_workers"], planner.deadline)
    world.run()
    assert world.now <= options["budget"] + 1e-9
    assert not any(world.planner.next_job(worker) for worker in range(options["n_workers"]))
    assert_stages_in_order(world, config)
    assert_repeats(world, options["n_workers"])
    assert all(plan.ended for plan in world.planner.summary())


def assert_stages_in_order(world: World, config: PlanConfig) -> None:
    """No stage twice, views without gaps, an answer on the worker that tuned, and levels that count losses."""
    views: Counter[tuple[str, bool]] = Counter()
    tuned_by: dict[str, int] = {}
    lost: Counter[str] = Counter()
    for _, worker, job, how in world.ended:
        assert job.level == lost[job.task_id] < config.max_tries
        lost[job.task_id] += how != "done"
        tuned = job.task_id in tuned_by
        if job.stage in ("quick", "answer") and how == "done":
            assert job.views[0] == views[job.task_id, tuned] < job.views[1] <= config.most_views
            views[job.task_id, tuned] = job.views[1]
        if job.stage == "answer" and tuned and not job.views[0] and not job.level:
            assert worker == tuned_by[job.task_id]
        if job.stage == "tune":
            assert not tuned
            assert job.level < config.untuned_level
            assert config.tune
            if how == "done":
                tuned_by[job.task_id] = worker


def work_done(world: World) -> dict[str, list[Job]]:
    """Each task's finished jobs in order."""
    found: dict[str, list[Job]] = {}
    for _, _, job, how in world.ended:
        if how == "done":
            found.setdefault(job.task_id, []).append(job)
    return found


def assert_repeats(world: World, n_workers: int) -> None:
    """The record, after a round through JSON, gives the same jobs to any number of workers, losses or none."""
    record = json.loads(json.dumps(world.planner.record(), allow_nan=False))
    for n, rate in ((1, 0.0), (n_workers, 0.0), (n_workers + 2, 0.3)):
        again = World(RecordedPlan(record, max_tries=100), n, seed=1, loss_rate=rate)
        again.run()
        assert work_done(again) == work_done(world)


@given(runs, st.integers(0, 30))
def test_a_plan_goes_on_where_it_stopped(options: dict[str, Any], n_jobs: int) -> None:
    planner, world = make(**options, stop_after=n_jobs)
    world.run()
    again, rest = make(**options)
    again.recall(json.loads(json.dumps(planner.record())))
    states = [{**_facts(each.states[task_id]), "id": task_id} for each in (planner, again) for task_id in each.states]
    assert states[: len(states) // 2] == states[len(states) // 2 :]
    rest.run()
    both = work_done(world), work_done(rest)
    for task_id in both[0]:
        pairs = [(job.stage, job.views) for jobs in both for job in jobs.get(task_id, [])]
        assert len(set(pairs)) == len(pairs), "a finished stage was done again"


def _facts(state: TaskState) -> dict[str, Any]:
    names = ("level", "n_lost", "views", "quick", "tuned", "answered", "scored_views", "belief")
    return {name: getattr(state, name) for name in names}


def test_a_repeated_plan_goes_on_where_it_stopped() -> None:
    planner, world = simulate(6, 2, 2000)
    part = World(RecordedPlan(planner.record()), 2, stop_after=9)
    part.run()
    done = [{"event": "done", "worker": w, "job": j.to_json(), "outcome": {"seconds": 1}} for _, w, j, _ in part.ended]
    rest = World(RecordedPlan(planner.record()), 3)
    rest.planner.recall({"events": done})
    rest.run()
    first, second = work_done(part), work_done(rest)
    assert {task_id: first.get(task_id, []) + second.get(task_id, []) for task_id in planner.states} == work_done(world)


def test_equal_events_at_equal_times_give_equal_plans() -> None:
    plans = [simulate(10, 3, 1500, loss_rate=0.1, seed=7)[1].started for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0] != simulate(10, 3, 1500, loss_rate=0.1, seed=8)[1].started


def stages_of(world: World, task_id: str) -> list[str]:
    return [job.stage for _, _, job, how in world.ended if job.task_id == task_id and how == "done"]


def test_first_all_get_a_quick_answer_short_ones_first() -> None:
    planner, world = simulate(20, 1, 1e5)
    quick = [job.predicted_seconds for _, _, job in world.started[:20] if job.stage == "quick"]
    assert len(quick) == 20
    tokens = [planner.costs.config.tokens("quick", size_of(job.task_id), 2) for _, _, job in world.started[:20]]
    assert tokens == sorted(tokens)


def test_with_time_enough_every_task_has_everything_the_longest_too() -> None:
    planner, world = simulate(20, 4, 1e6)
    for task_id in planner.states:
        assert stages_of(world, task_id)[:3] == ["quick", "tune", "answer"]
        assert stages_of(world, task_id)[-1] == "score"
        assert max(job.views[1] for _, _, job, _ in world.ended if job.task_id == task_id) == 32
    assert {plan.ended for plan in planner.summary()} == {"every stage is done"}


@pytest.mark.parametrize("slow", ["0", "19"])
def test_one_endless_task_does_not_starve_the_others(slow: str) -> None:
    """The fault of a sorted queue: what is behind a long task gets nothing, or the long one at the end does."""
    config = PlanConfig(tune_seconds=60, answer_seconds=60, quick_seconds=60)
    planner, world = make(20, 2, 4000, config=config)
    huge = [replace(size_of(str(i)), prompt_tokens=10**6) if str(i) == slow else size_of(str(i)) for i in range(20)]
    world.planner = planner = Planner(huge, config, 2, planner.deadline)
    world.run()
    assert all(stages_of(world, task_id)[:1] == ["quick"] for task_id in planner.states)
    assert all("answer" in stages_of(world, task_id) for task_id in planner.states)


def test_too_little_time_goes_to_tasks_that_gain_most_a_second() -> None:
    planner, world = simulate(30, 2, 900, spread=0)
    tuned = {job.task_id for _, _, job, _ in world.ended if job.stage == "tune"}
    assert all(state.quick for state in planner.states.values())
    assert 0 < len(tuned) < 30
    seconds = {task_id: planner.costs.mean("tune", state.size) for task_id, state in planner.states.items()}
    mean = {kind: sum(seconds[i] for i in ids) / len(ids) for kind, ids in (("tuned", tuned), ("all", seconds))}
    assert mean["tuned"] < mean["all"]
    rich = simulate(30, 2, 1e5, spread=0)[1]
    first = {
        each: [j.views[1] for _, _, j, _ in each_world.ended if j.stage == "answer" and not j.views[0]]
        for each, each_world in (("poor", world), ("rich", rich))
    }
    assert sum(first["poor"]) / len(first["poor"]) < min(first["rich"]) == 8


def test_time_goes_to_tasks_whose_views_disagree() -> None:
    clock = [0.0]
    sizes = [replace(SHORT, task_id=name) for name in ("agreed", "open")]
    planner = Planner(sizes, PlanConfig(score_views=0), 1, Deadline(1e5, lambda: clock[0]))
    shares = {"agreed": Outcome(2, 1.0, 1.0), "open": Outcome(2, 0.5, 0.0)}
    jobs = []
    while job := planner.next_job(0):
        jobs.append(job)
        planner.done(0, job, shares[job.task_id])
    more = [job.task_id for job in jobs if job.stage == "answer" and job.views[0]]
    assert more == ["open", "open", "agreed", "agreed"]
    assert [job.views for job in jobs if job.task_id == "open"][2:] == [(0, 8), (8, 16), (16, 32)]


def answered(tuned: bool = True) -> TaskState:
    """A short task with eight views that do not agree, not scored."""
    belief = observe(PRIOR, 8, 0.5, 0.25)
    return TaskState(SHORT, views=8, quick_views=2, tuned=tuned, answered=True, belief=belief, margin=0.25)


def test_scores_come_after_the_views_that_pay_but_in_time() -> None:
    options, state = Options(PlanConfig(), Costs(CostConfig())), answered()
    both, score = options.best(state, 0.0), options.best(state, 1.0)
    assert both is not None
    assert score is not None
    assert (both.stage, both.views, score.stage) == ("answer", (8, 16), "score")
    assert both.gain > score.gain
    one_view, scores = options.costs.upper("answer", SHORT), options.costs.upper("score", SHORT, 8)
    jobs = [
        options.fitting(state, both, left) for left in (1e6, one_view + 1.01 * scores, one_view + 0.9 * scores, 0.0)
    ]
    assert [job and (job.stage, job.views) for job in jobs] == [
        ("answer", (8, 16)),
        ("answer", (8, 9)),
        ("score", (0, 8)),
        None,
    ]


@pytest.mark.parametrize("tuned", [True, False])
def test_untuned_views_are_right_less_often(tuned: bool) -> None:
    state, skill = answered(tuned), 1.0 if tuned else UNTUNED
    option = Options(PlanConfig(score_views=0, tune=False), Costs(CostConfig())).best(state, 0.0)
    assert option is not None
    more = found(state.belief, 16, skill) - found(state.belief, 8, skill)
    assert option.gain == pytest.approx(UNSCORED * more)


def test_a_lost_job_comes_again_gentler_behind_the_others_and_then_no_more() -> None:
    clock = [0.0]
    config = PlanConfig(max_tries=4, untuned_level=2, score_views=0, most_views=8)
    planner = Planner([SHORT, LONG], config, 1, Deadline(1e5, lambda: clock[0]))
    done: list[tuple[str, str, int]] = []
    while job := planner.next_job("w"):
        done.append((job.task_id, job.stage, job.level))
        if job.task_id == "short":
            planner.lost("w", job, 5, "out of memory")
        else:
            planner.done("w", job, Outcome(5, 0.5, 0.2))
    quick = [each for each in done if each[1] == "quick"]
    assert quick == [("short", "quick", 0), ("long", "quick", 0), *(("short", "quick", i) for i in (1, 2, 3))]
    short, long = planner.summary()
    assert short.ended == "lost 4 times, the last time in quick: out of memory"
    assert [step.result for step in short.steps] == ["lost: out of memory"] * 4
    assert [step.job.stage for step in long.steps] == ["quick", "tune", "answer"]
    assert long.ended == "every stage is done"


def test_a_task_that_cannot_be_tuned_is_answered_by_the_base() -> None:
    planner = Planner([SHORT], PlanConfig(1, untuned_level=2, score_views=0, most_views=8), 1, Deadline.never())
    found: list[tuple[str, int, tuple[int, int]]] = []
    while job := planner.next_job(0):
        found.append((job.stage, job.level, job.views))
        if job.stage == "tune":
            planner.lost(0, job, 1, "crashed")
        else:
            planner.done(0, job, Outcome(1, 0.5, 0.5))
    assert found == [("quick", 0, (0, 1)), ("tune", 0, (0, 0)), ("tune", 1, (0, 0)), ("answer", 2, (1, 8))]


def test_the_worker_that_tuned_answers_and_another_one_where_it_died() -> None:
    planner = Planner([SHORT], PlanConfig(), 2, Deadline.never())
    planner.done(0, _next(planner, 0, "quick"), Outcome(1))
    planner.done(0, _next(planner, 0, "tune"), Outcome(1))
    assert planner.next_job(1) is None
    planner.gone(0)
    answer = _next(planner, 1, "answer")
    assert answer.level == 0
    planner.lost(1, answer, 1, "killed")
    assert _next(planner, 0, "answer").level == 1


def _next(planner: Planner, worker: int, stage: str) -> Job:
    job = planner.next_job(worker)
    assert job is not None
    assert job.stage == stage
    return job


def test_what_does_not_fit_is_not_started_and_says_why() -> None:
    clock = [0.0]
    planner = Planner([SHORT, LONG], PlanConfig(), 1, Deadline(100, lambda: clock[0]))
    planner.done(0, _next(planner, 0, "quick"), Outcome(1, 0.5, 0.5))
    clock[0] = 99.9
    assert planner.next_job(0) is None
    short, long = planner.summary()
    assert short.ended.startswith("no time for tune: ")
    assert long.ended.startswith("no time for quick: ")
    assert long.ended.endswith(" s or more, 0.1 s left")


def test_a_job_waits_until_estimates_have_come_down() -> None:
    """A prior of another machine: what seems too long at first starts once it is known to be short."""
    clock = [0.0]
    costs = CostConfig(quick=Line(100, 1), tune=Line(1, 1), answer=Line(1, 1), score=Line(1, 1))
    sizes = [replace(SHORT, task_id=str(i)) for i in range(4)]
    planner = Planner(sizes, PlanConfig(), 1, Deadline(60, lambda: clock[0]), costs)
    for _ in sizes:
        job = _next(planner, 0, "quick")
        clock[0] += 0.5
        planner.done(0, job, Outcome(0.5, 0.5, 0.5))
    assert _next(planner, 0, "tune")


def test_a_decision_looks_at_a_few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1,000 workers and 10,000 tasks. Looks are counted, for seconds depend on what else a machine does."""
    looks = Counter[int]()
    best = Options.best

    def counted(*arguments: Any) -> Any:
        looks[len(per_decision)] += 1
        return best(*arguments)

    per_decision: list[int] = []
    planner = Planner([size_of(str(i)) for i in range(10_000)], PlanConfig(), 1000, Deadline(36000, lambda: 0.0))
    monkeypatch.setattr(Options, "best", counted)
    draw = random.Random(0)
    for i in range(12_000):
        job = planner.next_job(i % 1000)
        assert job is not None
        planner.done(i % 1000, job, Outcome(true_seconds(job) * draw.lognormvariate(0, 0.3), draw.random(), 0.1))
        per_decision.append(i)
    assert max(looks.values()) <= 40


@given(st.integers(1, 32), st.floats(0, 1), st.floats(0, 1) | st.just(nan), st.sampled_from([1.0, UNTUNED]))
def test_a_belief_stays_one_and_more_views_find_more(n: int, agreement: float, margin: float, skill: float) -> None:
    belief = observe(PRIOR, n, agreement, margin if isnan(margin) else margin * agreement, skill)
    assert sum(belief) == pytest.approx(1)
    assert min(belief) >= 0
    chances = [found(belief, k, skill) for k in range(40)]
    assert chances == sorted(chances)
    assert 0 == chances[0] <= chances[-1] <= 1


def test_the_prior_is_the_published_gain_curve() -> None:
    curve = {1: 0.43, 2: 0.53, 4: 0.63, 8: 0.68, 16: 0.71}
    assert {n: found(PRIOR, n) for n in curve} == pytest.approx(curve, abs=0.015)


def test_beliefs_follow_bayes_in_a_world_that_can_be_counted() -> None:
    """Two views: the chances of each number of right views and of each leading wrong count, added up by hand."""
    p = 0.3
    both_right, one_right, none_right = p * p, 2 * p * (1 - p), (1 - p) ** 2
    agree = both_right + none_right / 2  # two wrong views agree in half of the cases
    differ = one_right + none_right / 2
    belief = tuple(0.5 if chance in (CHANCES[3], CHANCES[10]) else 0.0 for chance in CHANCES)
    odds = {}
    for share, margin, chance in ((1.0, 1.0, agree), (0.5, 0.0, differ)):
        after = observe(belief, 2, share, margin, skill=p / CHANCES[3])
        other = CHANCES[10] * p / CHANCES[3]
        expected = {1.0: other**2 + (1 - other) ** 2 / 2, 0.5: 2 * other * (1 - other) + (1 - other) ** 2 / 2}[share]
        odds[share] = after[3] / after[10], chance / expected
    for got, wanted in odds.values():
        assert got == pytest.approx(wanted)


def test_agreement_lowers_what_more_views_gain() -> None:
    gains = [found(b, 16) - found(b, 8) for b in (observe(PRIOR, 8, a, m) for a, m in ((1, 1), (0.75, 0.5), (0.5, 0)))]
    assert gains == sorted(gains)
    assert found(observe(PRIOR, 8, 0, 0), 16) < found(PRIOR, 16)
    assert scoring_gain(0.7, 1.0) == 0 < scoring_gain(0.7, 0.5) < scoring_gain(0.7, 0.0)
    assert observe(PRIOR, 8, nan, nan) == PRIOR


@pytest.mark.parametrize("wrong", [0.1, 1.0, 10.0])
def test_costs_are_learnt_from_any_prior(wrong: float) -> None:
    line, draw = RunningLine(Line(2 * wrong, 1 * wrong)), random.Random(0)
    for _ in range(40):
        tokens = draw.uniform(500, 20000)
        line.learn(tokens, (2 + tokens / 1000) * draw.lognormvariate(0, 0.1))
    for tokens in (1000, 5000, 15000):
        assert line.mean(tokens) == pytest.approx(2 + tokens / 1000, rel=0.15)
        assert line.mean(tokens) < line.upper(tokens) < 1.6 * line.mean(tokens)


def test_doubt_shrinks_with_every_measurement() -> None:
    line, shares = RunningLine(Line(2, 1)), []
    for _ in range(30):
        line.learn(5000, 7)
        shares.append(line.upper(5000) / line.mean(5000))
    assert shares[0] > 1.5
    assert shares[-1] < 1.2
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("when", [0, 5, 29])
def test_one_slow_task_does_not_poison_the_estimates(when: int) -> None:
    line = RunningLine(Line(2, 1))
    for i in range(30):
        line.learn(5000, 700 if i == when else 7)
    assert line.mean(5000) == pytest.approx(7, rel=0.2)
    assert line.upper(5000) < 3 * 7


def test_a_slow_task_is_expected_to_stay_slow() -> None:
    costs = Costs(CostConfig())
    costs.learn("tune", LONG, 0, 20.0)
    for _ in range(10):
        costs.learn("quick", SHORT, 2, 3.0)
    before = costs.mean("tune", LONG), costs.mean("tune", SHORT)
    costs.learn("quick", LONG, 2, 10 * costs.mean("quick", LONG, 2))
    assert costs.mean("tune", LONG) == pytest.approx(2 * before[0])
    assert costs.mean("tune", SHORT) == before[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"quick_views": 0}, r"option plan\.quick_views: found 0, expected 1 or more"),
        ({"first_views": 9, "most_views": 8}, r"option plan\.most_views: found 8, expected 9 or more"),
        ({"tune_seconds": 0}, r"option plan\.tune_seconds: found 0, expected more than 0 seconds"),
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        PlanConfig(**options)
