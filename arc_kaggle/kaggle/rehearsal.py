"""The rehearsal when a notebook is committed: does the model fit, are tasks answered, and does the time suffice?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from arc_kaggle.config.model import ModelOptions
from arc_kaggle.errors import ConfigError, WorkerError
from arc_kaggle.kaggle.commands import run
from arc_kaggle.kaggle.machines import Options
from arc_kaggle.run.records import TaskRun
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import write_json
from arc_kaggle.tasks.dataset import Tasks
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Pair, Task, task_to_json
from arc_kaggle.tuning.outcome import NOT_ASKED_FOR

REHEARSAL_MINUTES = 60.0
"""Most minutes that a rehearsal solves tasks for, and as many for preflight."""
N_USUAL, N_LARGEST = 4, 2
"""Tasks of a rehearsal: some of the file, spread over its prompt lengths, and some of the largest size there is."""
MOST_PAIRS = 10
"""Train pairs of a task of the largest size."""
LARGEST = "largest"
"""How the ids of tasks of the largest size begin."""


def solve_options(tasks: Path, out: Path, settings: Options, deadline: Deadline) -> Options:
    """Options of a run of `solve` that ends by a deadline. Raises ConfigError where that has passed."""
    minutes = round(deadline.seconds_left / 60, 2)
    if minutes <= 0:
        raise ConfigError(f"time limit: found {minutes} minutes left, expected some; raise TIME_LIMIT_MINUTES")
    return {"tasks": tasks, "out": out, "time_limit_minutes": minutes, **settings}


def rehearse(tasks: Tasks, out: Path, settings: Options, deadline: Deadline) -> None:
    """Preflight, a few tasks of the file and a few of the largest size, and the time that the whole should take.

    Both verdicts on time are about the tasks of the file, by as many workers, in the time that the rerun has from its
    start; what the rehearsal itself takes is none of that.

    Raises WorkerError where not a single task came through.
    """
    until, seconds = deadline.earlier(60 * REHEARSAL_MINUTES), deadline.seconds_left
    out.mkdir(parents=True, exist_ok=True)
    if settings.get("engine") != "fake":
        write_tasks(out / "all_tasks.json", tasks)
        sizes = {"sized_by": out / "all_tasks.json", "n_run_tasks": len(tasks)}
        whole = {"time_limit_minutes": round(seconds / 60, 2), **sizes}
        bound = {"time_bound_minutes": round(until.seconds_left / 60, 2)}
        with suppress(WorkerError):  # its lines say what fails; the tasks show what becomes of it
            run("preflight", options={**of_preflight(settings), **whole, **bound}, deadline=until)
    file = out / "tasks.json"
    write_tasks(file, [*usual_tasks(tasks), *largest_tasks()])
    run("solve", "--overwrite", options=solve_options(file, out / "run", settings, until), deadline=until)
    runs, n_workers = read_runs(out / "run" / "report.json"), read_workers(out / "run" / "events.jsonl")
    print(projection(runs, len(tasks), n_workers, seconds), flush=True)


def write_tasks(file: Path, tasks: Sequence[Task]) -> None:
    write_json(file, {task.id: task_to_json(task) for task in tasks}, indent=None)


def of_preflight(settings: Options) -> Options:
    """Those of the options of `solve` that `preflight` takes."""
    shared = {option.name for option in fields(ModelOptions)}
    return {name: value for name, value in settings.items() if name.partition(".")[0] in shared}


def usual_tasks(tasks: Tasks, n: int = N_USUAL) -> list[Task]:
    """Tasks from the middle of each of `n` equal parts of a file, by prompt length."""
    ordered = sorted(tasks, key=prompt_length)
    return [ordered[int((i + 0.5) * len(ordered) / n)].without_solution() for i in range(min(n, len(ordered)))]


def largest_tasks(n: int = N_LARGEST) -> list[Task]:
    """Tasks of the largest size: ten train pairs, and all grids 30 x 30 in all colours. Outputs are turned inputs."""
    return [_largest_task(f"{LARGEST}{i}", np.random.default_rng(i)) for i in range(n)]


def _largest_task(task_id: str, rng: np.random.Generator) -> Task:
    inputs = rng.integers(N_COLOURS, size=(MOST_PAIRS + 1, MAX_SIDE, MAX_SIDE)).astype(np.int8)
    pairs = [Pair(grid, np.ascontiguousarray(np.rot90(grid))) for grid in inputs]
    return Task(task_id, tuple(pairs[:-1]), (replace(pairs[-1], output=None),))


def read_runs(report: Path) -> list[TaskRun]:
    """What the tasks of a run took. Raises WorkerError where not one is through."""
    rows = json.loads(report.read_text(encoding="utf-8"))["reports"]
    runs = [TaskRun.from_json(row["run"]) for row in rows if row["run"]]
    if not runs:
        verdicts = " | ".join(sorted({row["verdict"] for row in rows}))
        raise WorkerError(f"{report}: found no task that is through, expected some of {len(rows)}: {verdicts:.300}")
    return runs


def read_workers(events: Path) -> int:
    """How many workers a run had, by its own word."""
    lines = events.read_text(encoding="utf-8").splitlines()
    return next(int(event["workers"]) for event in map(json.loads, reversed(lines)) if event["event"] == "run")


def projection(runs: Sequence[TaskRun], n_tasks: int, n_workers: int, seconds_left: float) -> str:
    """What `n_tasks` would take on some workers, if all were as those of a rehearsal, against the time there is."""
    kinds = {"as those of the file": False, "of the largest size": True}
    lines = [f"rehearsal: {n_tasks} tasks have {seconds_left / 3600:.2f} h on {n_workers} workers"]
    for what, largest in kinds.items():
        alike = [run for run in runs if run.task_id.startswith(LARGEST) == largest]
        lines.append(f"  {what}: {_projected(alike, n_tasks, n_workers, seconds_left)}")
    return "\n".join(
        [*lines, "what there is no time for has the fallback; fewer generate.n_views or tune.steps save time"]
    )


def why_not_counted(run: TaskRun) -> str:
    """Why the seconds of a task say nothing of tasks like it: it was not tuned, or not asked; empty where it was."""
    if not run.tune.tuned and run.tune.reason != NOT_ASKED_FOR:
        return run.tune.text
    unasked = {reason: n for reason, n in run.reasons.items() if reason in ("prompt_too_long", "deadline")}
    return f"not answered: {', '.join(unasked)}" if sum(unasked.values()) == sum(run.reasons.values()) else ""


def _projected(alike: Sequence[TaskRun], n_tasks: int, n_workers: int, seconds_left: float) -> str:
    reasons = {run.task_id: why_not_counted(run) for run in alike}
    runs = [run for run in alike if not reasons[run.task_id]]
    if not runs:
        return "; ".join(["none was tuned and answered", *sorted({*reasons.values()})])
    tuning, answering = (sum(seconds) / len(runs) for seconds in zip(*map(_seconds, runs), strict=True))
    total = n_tasks * (tuning + answering) / n_workers
    verdict = "fits" if total <= seconds_left else "DOES NOT FIT"
    means = f"{len(runs)} of {len(alike)} tasks, {tuning:.1f} s fine-tuning and {answering:.1f} s answering each"
    return f"{means}: {total / 3600:.2f} h for {n_tasks}, {verdict}"


def _seconds(run: TaskRun) -> tuple[float, float]:
    return run.tune.seconds, run.infer_seconds
