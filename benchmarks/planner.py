"""How much of the best possible score does the planner reach? 240 tasks on 4 GPUs, in simulated time.

    python benchmarks/planner.py [--seeds 20] [--out benchmarks/results/planner.json --commit ID]

The world. What a task takes as a whole follows the published distribution (mean 107 s, median 77, p90 237, p99 392 on
one H100); 29% of it is fine-tuning, 88 s at most. A view is right with the task's own chance p, spread over the tasks
such that the share of tasks found is a published curve, in its seconds, scaled by what the task takes: `greedy` 43,
53, 63, 68, 71% after 1, 2, 4, 8, 16 views of 5.5 s each, `search` 51, 61, 69, 73, 76% in 10, 15, 27, 48, 86 s, `deep
search` 61, 79, 82, 83% in 50, 190, 390, 730 s (1, 4, 8, 16 views). Quick views are greedy and untuned, and right 0.62
times as often. Without scores 9% of what was found is not chosen, in proportion to 1 - p. A wrong view gives the
task's favourite wrong answer or one of its own; the chance of the former is drawn evenly for each task. The planner
knows lengths in tokens, which tell what a stage takes within about 35%, a prior of costs that is three times too high,
and what the views agree on; its model of gains is that of `greedy` in all three worlds. A worker dies once in four
hours, with the job that it does, and is back after a minute.

The score of a plan is the sum over the tasks of the chance that the task is solved by what it got. The optimum knows
every task's true costs and chances, loses no worker, shares out the time of the GPUs as one pool, and may stop
anywhere between two states of a task (a linear programme; taking pieces of the tasks' concave hulls by gain a second
solves it exactly). Any plan is one of its feasible points: each task ends in one of the states, which cost at least
what they cost there, and all of them no more than the pool. So no plan scores more; how close one can come without
knowing the chances is not known, which is what keeps the shares of scarce budgets down.

The rivals know true costs and lose no worker. `fixed` gives each task the same time. `shortest` and `longest` are
sorted queues with one recipe for all (fine-tuning, so many views, scoring), the number of views chosen in hindsight as
the best of 4, 8, 16 and 32 for each budget.

Prints a JSON object last.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import platform
import random
import statistics
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, inf, log
from pathlib import Path

from arc_kaggle.run.planning.costs import CostConfig, Line
from arc_kaggle.run.planning.gain import UNSCORED, UNTUNED
from arc_kaggle.run.planning.jobs import Job, Outcome, TaskSize
from arc_kaggle.run.planning.plan_config import PlanConfig
from arc_kaggle.run.planning.planner import Planner
from arc_kaggle.system.deadline import Deadline

N_TASKS, N_GPUS, QUICK_VIEWS, MOST_VIEWS, SCORE_VIEWS = 240, 4, 2, 32, 8
BUDGETS = {"12 h": 12 * 3600 - 1200, "6 h": 6 * 3600, "3 h": 3 * 3600, "1.5 h": 5400}
"""Seconds; of Kaggle's 12 hours 20 minutes are kept back."""
QUANTILES, SECONDS = (0.0, 0.5, 0.9, 0.99, 1.0), (13.0, 77.0, 237.0, 392.0, 500.0)
"""What a task takes, linear in logarithms between these; the ends are chosen so that the mean is 107 s."""
MEAN_SECONDS, TUNE_SHARE, MOST_TUNE_SECONDS, SCORE_SHARE = 107.0, 0.29, 88.0, 0.15
"""The share of scoring is an estimate."""
JOB_SECONDS, RESTART_SECONDS, LIFE_SECONDS = 1.0, 60.0, 4 * 3600.0
LENGTH_SPREAD, STAGE_SPREAD = 0.3, 0.15
"""Of what a task takes given its tokens, and of a stage given its task, in logarithms."""
PRIOR_FACTOR = 3.0


@dataclass(frozen=True)
class Curve:
    """A published gain curve: the fit of its chances (see planning/gain.py) and the seconds of n views."""

    solvable: float
    alpha: float
    beta: float
    fixed_seconds: float
    view_seconds: float

    @property
    def one_view(self) -> float:
        """Share of tasks that one view solves."""
        return self.solvable * self.alpha / (self.alpha + self.beta)


CURVES = {
    "greedy": Curve(0.76, 0.87, 0.69, 0.0, 5.5),
    "search": Curve(0.80, 0.82, 0.465, 5.0, 5.07),
    "deep search": Curve(0.84, 1.49, 0.56, 5.0, 45.0),
}


@dataclass
class Puzzle:
    """A task of the world: what is true of it, and how far a plan has come with it."""

    size: TaskSize
    seconds: dict[str, float]
    """Of `tune`, `score`, a `quick` view, a `view`, and `fixed` for every answer."""
    chance: float
    quick_skill: float
    """Chance of an untuned greedy view, as a share of it."""
    open_vote: float
    """Chance that what was found is not chosen without scores."""
    wrong: float
    """Chance that a wrong view gives the task's favourite wrong answer."""
    views: int = 0
    tuned: bool = False
    scored: int = 0
    best: float = 0.0
    seen: dict[bool, list[int]] = field(default_factory=lambda: {False: [], True: []})

    def cost(self, stage: str, n_views: int) -> float:
        if stage == "tune":
            return JOB_SECONDS + self.seconds["tune"]
        if stage == "score":
            return JOB_SECONDS + self.seconds["score"] * min(n_views, SCORE_VIEWS) / SCORE_VIEWS
        if stage == "quick":
            return JOB_SECONDS + n_views * self.seconds["quick"]
        return JOB_SECONDS + self.seconds["fixed"] + n_views * self.seconds["view"]

    def value(self, n_views: int, tuned: bool, scored: bool) -> float:
        """The chance that it is solved."""
        chance = self.chance if tuned else self.quick_skill * self.chance
        return (1 - (1 - chance) ** n_views) * (1.0 if scored else 1 - self.open_vote)

    def states(self) -> Iterator[tuple[float, float]]:
        """(seconds, value) of all that it can come to, in one job a stage; quick views are counted as free."""
        yield 0.0, 0.0
        yield from ((self.cost("quick", n), self.value(n, False, False)) for n in range(1, QUICK_VIEWS + 1))
        for n in range(1, MOST_VIEWS + 1):
            for tuned in (False, True):
                seconds = tuned * self.cost("tune", 0) + self.cost("answer", n if tuned else max(0, n - QUICK_VIEWS))
                yield seconds, self.value(n, tuned, False)
                yield seconds + self.cost("score", n), self.value(n, tuned, True)

    def do(self, job: Job, seconds: float, draw: random.Random) -> tuple[float, float]:
        """A job is done, or cut by its cap; (agreement, margin) of the views. A cut `tune` or `score` was in vain."""
        n_views = job.views[1] - job.views[0]
        share = min(1.0, seconds / self.cost(job.stage, n_views))
        if job.stage == "tune" and share == 1:
            self.tuned, self.views, self.scored = True, 0, 0
        elif job.stage == "score" and share == 1:
            self.scored = self.views
        elif job.stage in ("quick", "answer"):
            self.views = job.views[0] + int(share * n_views)
        self.best = max(self.best, self.value(self.views, self.tuned, self.scored == self.views > 0))
        return self.agreement(draw)

    def agreement(self, draw: random.Random) -> tuple[float, float]:
        seen = self.seen[self.tuned]
        while len(seen) < self.views:
            chance = self.chance if self.tuned else self.quick_skill * self.chance
            right, favourite = draw.random() < chance, draw.random() < self.wrong
            seen.append(0 if right else 1 if favourite else 2 + len(seen))
        counts = [count for _, count in Counter(seen[: self.views]).most_common(2)] + [0, 0]
        return counts[0] / max(self.views, 1), (counts[0] - counts[1]) / max(self.views, 1)


def make_puzzles(curve: Curve, draw: random.Random) -> list[Puzzle]:
    return [_puzzle(f"{i:03}", curve, draw) for i in range(N_TASKS)]


def _puzzle(name: str, curve: Curve, draw: random.Random) -> Puzzle:
    whole = _task_seconds(draw.random())
    scale = whole / MEAN_SECONDS
    tokens = 1700 * scale * exp(draw.gauss(0, LENGTH_SPREAD))
    noise = {stage: exp(draw.gauss(0, STAGE_SPREAD)) for stage in ("tune", "score", "view")}
    seconds = {
        "tune": min(TUNE_SHARE * whole, MOST_TUNE_SECONDS) * noise["tune"],
        "score": SCORE_SHARE * whole * noise["score"],
        "quick": CURVES["greedy"].view_seconds * scale * noise["view"],
        "view": curve.view_seconds * scale * noise["view"],
        "fixed": curve.fixed_seconds * scale,
    }
    chance = draw.betavariate(curve.alpha, curve.beta) if draw.random() < curve.solvable else 0.0
    quick = UNTUNED * CURVES["greedy"].one_view / curve.one_view
    open_vote = (1 - UNSCORED) * (1 - chance) / (1 - curve.one_view / curve.solvable)
    return Puzzle(TaskSize(name, round(tokens), round(tokens / 8)), seconds, chance, quick, open_vote, draw.random())


def _task_seconds(quantile: float) -> float:
    i = min(bisect_right(QUANTILES, quantile), len(QUANTILES) - 1) - 1
    share = (quantile - QUANTILES[i]) / (QUANTILES[i + 1] - QUANTILES[i])
    return exp(log(SECONDS[i]) + share * log(SECONDS[i + 1] / SECONDS[i]))


def optimum(puzzles: list[Puzzle], budget: float) -> float:
    """The linear programme: pieces of the tasks' concave hulls, those of most gain a second first."""
    left, score = N_GPUS * budget, 0.0
    for slope, seconds in sorted((piece for puzzle in puzzles for piece in _hull(puzzle)), reverse=True):
        taken = min(seconds, left)
        score, left = score + slope * taken, left - taken
    return score


def _hull(puzzle: Puzzle) -> list[tuple[float, float]]:
    """(gain a second, seconds) of the pieces of the concave hull over all states of a task."""
    hull: list[tuple[float, float]] = []
    for point in sorted(puzzle.states(), key=lambda state: (state[0], -state[1])):
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return [(_slope(a, b), b[0] - a[0]) for a, b in pairwise(hull)]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def planned(puzzles: list[Puzzle], budget: float, draw: random.Random, life: float) -> dict[str, float]:
    """Run the planner against the world."""
    now = [0.0]
    scaled = {
        stage: Line(PRIOR_FACTOR * line.fixed_seconds, PRIOR_FACTOR * line.seconds_per_ktoken)
        for stage in ("quick", "tune", "answer", "score")
        for line in [CostConfig().line(stage)]
    }
    config = PlanConfig(quick_views=QUICK_VIEWS, most_views=MOST_VIEWS, score_views=SCORE_VIEWS, answer_seconds=7200)
    sizes = [puzzle.size for puzzle in puzzles]
    planner = Planner(sizes, config, N_GPUS, Deadline(budget, lambda: now[0]), CostConfig(**scaled))
    by_id = {puzzle.size.task_id: puzzle for puzzle in puzzles}
    queue: list[tuple[float, int, Job | None, float]] = [(0.0, gpu, None, 0.0) for gpu in range(N_GPUS)]
    idle: list[int] = []
    n_lost, last = 0, 0.0
    while queue:
        now[0], gpu, job, seconds = heapq.heappop(queue)
        free = [gpu]
        if job and draw.random() > exp(-seconds / life):
            planner.lost(gpu, job, seconds, "killed")
            n_lost, free = n_lost + 1, []
            heapq.heappush(queue, (now[0] + RESTART_SECONDS, gpu, None, 0.0))
        elif job:
            planner.done(gpu, job, Outcome(seconds, *by_id[job.task_id].do(job, seconds, draw)))
            last = now[0]
        free, idle = free + idle, []
        for each in free:
            new = planner.next_job(each)
            if new is None:
                idle.append(each)
                continue
            n_views = new.views[1] - new.views[0]
            seconds = min(by_id[new.task_id].cost(new.stage, n_views), new.max_seconds)
            heapq.heappush(queue, (now[0] + seconds, each, new, seconds))
    assert last <= budget
    return {"score": sum(puzzle.best for puzzle in puzzles), "n_lost": n_lost, "ended_s": last}


def fixed(puzzles: list[Puzzle], budget: float) -> float:
    """Each task has the same time: fine-tuning and as many views as fit with their scoring, else untuned views."""
    quota = N_GPUS * budget / len(puzzles)
    return sum(_within(puzzle, quota) for puzzle in puzzles)


def _within(puzzle: Puzzle, seconds: float, most_views: int = MOST_VIEWS) -> float:
    for tuned in (True, False):
        for scored in (True, False):
            for n in range(most_views, 0, -1):
                need = puzzle.cost("answer", n) + tuned * puzzle.cost("tune", 0) + scored * puzzle.cost("score", n)
                if need <= seconds:
                    return puzzle.value(n, tuned, scored)
    return 0.0


def sorted_queue(puzzles: list[Puzzle], budget: float, n_views: int, longest_first: bool) -> float:
    """One recipe for all tasks, in the order of their lengths; what is cut by the deadline counts as far as it came."""
    gpus, score = [0.0] * N_GPUS, 0.0
    for puzzle in sorted(puzzles, key=lambda each: each.size.prompt_tokens, reverse=longest_first):
        start = heapq.heappop(gpus)
        need = puzzle.cost("tune", 0) + puzzle.cost("answer", n_views) + puzzle.cost("score", n_views)
        score += _within(puzzle, budget - start, n_views)
        heapq.heappush(gpus, min(start + need, budget))
    return score


def best_queue(worlds: list[list[Puzzle]], budget: float, longest_first: bool) -> tuple[int, list[float]]:
    """The number of views that is best in hindsight, and the scores."""
    runs = {n: [sorted_queue(world, budget, n, longest_first) for world in worlds] for n in (4, 8, 16, 32)}
    best = max(runs, key=lambda n: sum(runs[n]))
    return best, runs[best]


def decision_seconds(n_tasks: int = 10_000, n_workers: int = 1000, n_jobs: int = 20_000) -> dict[str, float]:
    """CPU seconds of a decision (`done`, then `next_job`) at a large scale; without the garbage collector, which halts
    the whole process for tens of milliseconds now and then, whatever runs in it.
    """
    draw = random.Random(0)
    sizes = [TaskSize(f"{i:05}", round(draw.lognormvariate(7, 0.8)), draw.randint(5, 930)) for i in range(n_tasks)]
    planner = Planner(sizes, PlanConfig(), n_workers, Deadline(36000, lambda: 0.0))
    jobs = {worker: planner.next_job(worker) for worker in range(n_workers)}
    taken = []
    gc.disable()
    for i in range(n_jobs):
        worker = i % n_workers
        job = jobs[worker]
        assert job is not None
        agreement = draw.random()
        outcome = Outcome(job.predicted_seconds * draw.lognormvariate(0, 0.3), agreement, agreement * draw.random())
        started = time.thread_time()
        planner.done(worker, job, outcome)
        jobs[worker] = planner.next_job(worker)
        taken.append(time.thread_time() - started)
    gc.enable()
    taken.sort()
    return {"median": taken[len(taken) // 2], "p99": taken[len(taken) * 99 // 100], "max": taken[-1]}


def compare(curve: str, budget: float, n_seeds: int) -> dict[str, float]:
    """Mean scores in % of the tasks, and shares of the optimum in %."""

    def make(seed: int) -> list[Puzzle]:
        return make_puzzles(CURVES[curve], random.Random(seed))

    worlds = [make(seed) for seed in range(n_seeds)]
    best = [optimum(world, budget) for world in worlds]
    runs = [planned(make(i), budget, random.Random(f"run {i}"), LIFE_SECONDS) for i in range(n_seeds)]
    calm = [planned(make(i), budget, random.Random(f"run {i}"), inf)["score"] for i in range(n_seeds)]
    short_views, short = best_queue(worlds, budget, longest_first=False)
    long_views, long = best_queue(worlds, budget, longest_first=True)
    scores = {
        "planner": [run["score"] for run in runs],
        "planner_without_losses": calm,
        "fixed": [fixed(world, budget) for world in worlds],
        "shortest": short,
        "longest": long,
    }
    shares = {name: [s / b for s, b in zip(values, best, strict=True)] for name, values in scores.items()}
    assert all(share <= 1 + 1e-9 for values in shares.values() for share in values), "more than the optimum"
    return {
        "optimum": 100 * statistics.mean(best) / N_TASKS,
        **{name: 100 * statistics.mean(values) / N_TASKS for name, values in scores.items()},
        **{f"{name}_share": 100 * statistics.mean(values) for name, values in shares.items()},
        "planner_share_min": 100 * min(shares["planner"]),
        "shortest_views": short_views,
        "longest_views": long_views,
        "lost_jobs": statistics.mean(run["n_lost"] for run in runs),
        "ended_share": 100 * max(run["ended_s"] for run in runs) / budget,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="where the result is written too")
    parser.add_argument("--commit", default="", help="of this result")
    options = parser.parse_args()
    rows = []
    print(f"{'':19}{'optimum':>8}{'planner':>9}{'share':>8}{'(least)':>9}{'fixed':>8}{'shortest':>10}{'longest':>9}")
    for curve in CURVES:
        for name, budget in BUDGETS.items():
            row = compare(curve, budget, options.seeds)
            rows.append({"curve": curve, "budget": name, **{key: round(value, 2) for key, value in row.items()}})
            print(
                f"{curve + ', ' + name:19}{row['optimum']:7.1f}%{row['planner']:8.1f}%{row['planner_share']:7.1f}%"
                f"{row['planner_share_min']:8.1f}%{row['fixed_share']:7.1f}%{row['shortest_share']:9.1f}%"
                f"{row['longest_share']:8.1f}%",
                flush=True,
            )
    result = {
        "benchmark": "planner",
        "command": f"python benchmarks/planner.py --seeds {options.seeds}",
        "commit": options.commit,
        "date": time.strftime("%Y-%m-%d"),
        "hardware": "simulated time; decisions on one x86-64 core",
        "versions": {"python": platform.python_version()},
        "tasks": N_TASKS,
        "gpus": N_GPUS,
        "worker_life_s": LIFE_SECONDS,
        "unit": "optimum, planner, fixed, shortest, longest: % of the tasks; shares: % of the optimum",
        "rows": rows,
        "decision_ms": {name: round(1000 * value, 3) for name, value in decision_seconds().items()},
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
