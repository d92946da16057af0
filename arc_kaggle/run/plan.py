"""The plan of a run, live by the clock or recorded; and what a planner wants to know of tasks and of stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import nan
from typing import Any

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.run.planning.jobs import Job, TaskSize
from arc_kaggle.run.planning.plan_config import PlanConfig
from arc_kaggle.run.planning.planner import Planner
from arc_kaggle.run.planning.record import RecordedPlan
from arc_kaggle.run.records import StageRun
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.tasks.grid import grid_key
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Task

PLAN_FILE = "plan.json"


def make_plan(config: SolveConfig, tasks: Sequence[Task], n_workers: int, deadline: Deadline) -> Planner | RecordedPlan:
    """The plan that `config` asks for. Raises ConfigError for a recorded one that cannot be read."""
    if config.plan is None:
        return Planner([task_size(task) for task in tasks], plan_config(config), n_workers, deadline)
    try:
        record = read_json_file(config.plan)
        unknown = {event["job"]["task_id"] for event in record["events"]} - {task.id for task in tasks}
        if unknown:
            raise ConfigError(f"option plan: {config.plan}: found task {min(unknown)}, which is not in --tasks")
        return RecordedPlan(record, config.max_tries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"option plan: {config.plan}: {error!r}, expected the {PLAN_FILE} that an earlier run wrote"
        ) from error


def task_size(task: Task) -> TaskSize:
    """In cells and row ends, which is tokens for most encoders; measured costs correct what the prior makes of it."""
    grids = [grid for pair in (*task.train, *task.without_solution().test) for grid in (pair.input, pair.output)]
    longest = max(grid.size + len(grid) for grid in grids if grid is not None)
    return TaskSize(task.id, prompt_length(task), longest, len(task.test))


def plan_config(config: SolveConfig) -> PlanConfig:
    """How much of each stage a task gets, by the options of the stages."""
    n_views = config.generate.n_views
    return PlanConfig(
        quick_views=min(config.quick_views, n_views),
        first_views=min(config.first_views, n_views),
        most_views=n_views,
        score_views=config.rescore.n_views,
        tune=config.tune.weights != "none",
        quick_seconds=config.generate.max_seconds,
        tune_seconds=config.tune.max_seconds,
        answer_seconds=config.generate.max_seconds,
        score_seconds=config.rescore.max_seconds,
        max_tries=config.max_tries,
    )


def record_of(stages: Iterable[StageRun]) -> dict[str, Any]:
    """The decisions that a run came to and what came of each, as a planner recalls them and `--plan` repeats them."""
    return {"events": [_event(stage) for stage in stages]}


def _event(stage: StageRun) -> dict[str, Any]:
    known = {"at_s": stage.at_seconds, "worker": stage.worker, "job": stage.job.to_json()}
    if stage.lost:
        return {"event": "lost", **known, "seconds": stage.outcome.seconds, "reason": stage.lost}
    return {"event": "done", **known, "outcome": stage.outcome.to_json()}


def is_last(job: Job, config: SolveConfig) -> bool:
    """Whether nothing can follow a job of a task: all its views are answered, and scored where that is asked for."""
    ends = "score" if config.rescore.n_views else "answer"
    untuned = config.tune.weights == "none" and ends == "answer"  # then a quick answer is as good as any
    return job.stage in (ends, "quick" if untuned else ends) and job.views[1] >= config.generate.n_views


def agreement(task: Task, predictions: Iterable[Prediction]) -> tuple[float, float]:
    """Share of the views that gave the leading candidate, and by which it leads, of the query where that is least."""
    views: dict[int, set[int]] = {query.index: set() for query in task.queries}
    votes: dict[int, Counter[Any]] = {query.index: Counter() for query in task.queries}
    for prediction in predictions:
        views[prediction.query].add(prediction.view)
        if prediction.grid is not None and not prediction.rank:
            votes[prediction.query][grid_key(prediction.grid)] += 1
    shares = [_leads(votes[query], len(views[query])) for query in views]
    return min(shares, default=(nan, nan))


def _leads(votes: Counter[Any], n_views: int) -> tuple[float, float]:
    first, second = ([n for _, n in votes.most_common(2)] + [0, 0])[:2]
    return (first / n_views, (first - second) / n_views) if n_views else (0.0, 0.0)
