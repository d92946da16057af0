"""What the notebooks call: few lines there, all the work in child processes, so that the kernel never imports torch."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arc_kaggle.answering.submission import SubmissionFile, choose_attempts, read_submission
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.errors import SubmissionError
from arc_kaggle.kaggle.commands import CommandError, run
from arc_kaggle.kaggle.machines import MODELS, Options, machine_named, model_named, options_for
from arc_kaggle.kaggle.mounts import TEST_FILE, Mounts, find_mounts, is_rerun
from arc_kaggle.kaggle.rehearsal import rehearse, solve_options
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import find_gpus
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.tasks.grid import same_grid


def submit(
    model: str = "auto",
    preset: str = "auto",
    engine: str = "auto",
    tuner: str = "auto",
    time_limit_minutes: float = 700.0,
    competition: str = "auto",
    options: Options | None = None,
    started: float | None = None,
    out: Path = Path(),
) -> None:
    """Write `out`/submission.json: a valid fallback first, then what is found.

    At the rerun all tasks are solved and nothing is raised, for what is on disk counts. At the commit there is a
    rehearsal, and what goes wrong is raised: MountError, ConfigError, WorkerError.

    `model` is part of the path of a mounted model, a name of `MODELS`, or `box`; `preset` a name of `MACHINES`;
    `options` are further ones of `solve` by dotted name; `started` is when the time limit began, by `time.time()`.
    """
    elapsed = 0.0 if started is None else time.time() - started
    deadline = Deadline.after(60 * time_limit_minutes - elapsed)
    with told_at_rerun():
        mounts = find_mounts()
        print(mounts.text, flush=True)
        file = mounts.competition(competition) / TEST_FILE
        tasks = load_tasks(file)
        out.mkdir(parents=True, exist_ok=True)
        SubmissionFile(out / "submission.json", tasks)
        asked = {"engine": engine, "tuner": tuner}
        chosen = {name: value for name, value in asked.items() if value != "auto"}
        settings = {**find_options(mounts, model, preset), **chosen, **(options or {})}
        if is_rerun():
            solve_all(file, out, settings, deadline)
        else:
            rehearse(tasks, out / "rehearsal", settings, deadline)


def solve_all(tasks: Path, out: Path, settings: Options, deadline: Deadline) -> None:
    """Run `solve`; where it is killed, as for want of memory, it goes on where it was, once. Raises WorkerError."""
    try:
        run("solve", options=solve_options(tasks, out, settings, deadline), deadline=deadline)
    except CommandError as error:
        if error.code > 0:
            raise
        print(f"{error}; once more", flush=True)
        run("solve", options=solve_options(tasks, out, settings, deadline), deadline=deadline)


def dry_run(
    model: str = "auto",
    preset: str = "auto",
    tasks: str = "arc1:evaluation",
    select: str = "",
    options: Options | None = None,
    out: Path = Path("evaluation"),
) -> None:
    """Judge the model on tasks with known answers, with fine-tuning and without, by `arc-kaggle evaluate`.

    Scores are printed, evaluation.json and curves.png lie in `out`. Raises MountError, ConfigError, WorkerError.
    """
    settings = {**find_options(find_mounts(), model, preset), **(options or {})}
    recipes = ["none", settings.pop("recipe", "auto")]
    if left_out := [name for name in settings if name.startswith("tune.")]:
        print(f"evaluate takes recipes as they are, without {', '.join(left_out)}")
    kept = {name: value for name, value in settings.items() if name not in left_out and name != "model"}
    where = {"tasks": tasks, "select": select, "recipes": recipes, "out": out}
    run("evaluate", settings["model"], options={**where, **kept})


def find_options(mounts: Mounts, model: str, preset: str) -> dict[str, Any]:
    """Options of `solve` for the model and the machine. Raises MountError, ConfigError."""
    gpus = find_gpus()
    machine = machine_named(preset, gpus)
    folder, name = find_model(mounts, model)
    there = ", ".join(f"{gpu.name} {gpu.memory_gib:.0f} GiB" for gpu in gpus) or "no GPU"
    print(
        f"machine       {there}; preset {preset}\nmodel         {folder}; preset {name or 'its own card'}", flush=True
    )
    return {"model": str(folder), **options_for(machine, name)}


def find_model(mounts: Mounts, wanted: str) -> tuple[Path, str]:
    """(folder, name in `MODELS` or empty). A model with a card of its own says itself how it is used."""
    if wanted == "box":
        return BOX_FOLDER, ""
    if wanted in MODELS:
        fitting = [path for path in mounts.models if _preset_of(mounts, path) == wanted]
        return Mounts(mounts.root, models=tuple(fitting)).model(), wanted
    folder = Path(wanted) if Path(wanted).is_absolute() else mounts.model(wanted)
    return folder, "" if (folder / "arc_kaggle.json").is_file() else _preset_of(mounts, folder)


def _preset_of(mounts: Mounts, folder: Path) -> str:
    inside = folder.is_relative_to(mounts.root)
    return model_named((folder.relative_to(mounts.root) if inside else folder).as_posix())


def check_submission(competition: str = "auto", out: Path = Path()) -> None:
    """Say what `out`/submission.json holds; where it is not valid, put the fallback in its place. For the last cell."""
    with told_at_rerun():
        tasks = load_tasks(find_mounts().competition(competition) / TEST_FILE)
        path = out / "submission.json"
        try:
            read_submission(path, tasks)
        except SubmissionError as error:
            print(f"not valid, so the fallback takes its place: {error}")
            SubmissionFile(path, tasks)
        n_own, n_all = count_answered(path, tasks)
        print(f"{path}: valid; {len(tasks)} tasks, {n_own} of {n_all} test inputs answered, the others by the fallback")


def count_answered(path: Path, tasks: Tasks) -> tuple[int, int]:
    """(test inputs of which an attempt is not the fallback, all test inputs) of a valid submission."""
    attempts = read_submission(path, tasks)
    pairs = [(attempts[task.id][query.index], choose_attempts(query, [])) for task in tasks for query in task.queries]
    own = [not all(map(same_grid, found, fallback)) for found, fallback in pairs]
    return sum(own), len(own)


@contextmanager
def told_at_rerun() -> Iterator[None]:
    """At the rerun errors are shown and go no further: a notebook that ends well hands in what is on disk."""
    try:
        yield
    except Exception:
        if not is_rerun():
            raise
        traceback.print_exc(file=sys.stdout)
        print("this went wrong; submission.json stays as it is", flush=True)
