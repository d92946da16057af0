"""The functions that the notebooks call. All work happens in child processes, so the kernel never imports torch."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arc_kaggle.answering.submission import SubmissionFile, choose_attempts, read_submission, write_fallbacks
from arc_kaggle.config.model import BOX_FOLDER, CARD_FILE
from arc_kaggle.config.saved import saved_options
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
    options: Options | str | None = None,
    started: float | None = None,
    adapter: str = "auto",
    out: Path = Path(),
) -> None:
    """Write `out`/submission.json: a valid fallback first, then what is found.

    At the rerun all tasks are solved and nothing is raised, for what is on disk counts. At the commit there is a
    rehearsal, and what goes wrong is raised: MountError, ConfigError, WorkerError.

    `model` is part of the path of a mounted model, a name of `MODELS`, or `box`; `adapter` is part of the path of a
    mounted LoRA adapter on it, `auto` for the one that is attached, or `none`; `preset` is a name of `MACHINES`;
    `options` are further ones of `solve` by dotted name, or the path of the config.json that a run has left; `started`
    is when the time limit began, by `time.time()`.
    """
    elapsed = 0.0 if started is None else time.time() - started
    deadline = Deadline.after(60 * time_limit_minutes - elapsed)
    with told_at_rerun():
        mounts = find_mounts()
        print(mounts.text, flush=True)
        file = mounts.competition(competition) / TEST_FILE
        tasks = load_tasks(file)
        out.mkdir(parents=True, exist_ok=True)
        SubmissionFile(out / "submission.json", tasks).write()
        write_fallbacks(out / "submission.json", tasks)
        asked = {"engine": engine, "tuner": tuner}
        chosen = {name: value for name, value in asked.items() if value != "auto"}
        settings = {**find_options(mounts, model, preset, adapter), **chosen, **read_options(options)}
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
    options: Options | str | None = None,
    adapter: str = "auto",
    out: Path = Path("evaluation"),
) -> None:
    """Judge the model on tasks with known answers, with fine-tuning and without, by `arc-kaggle evaluate`.

    Scores are printed, evaluation.json and curves.png lie in `out`. Raises MountError, ConfigError, WorkerError.
    """
    settings = {**find_options(find_mounts(), model, preset, adapter), **read_options(options)}
    where = {"tasks": tasks, "select": select, "recipes": ["none", settings.pop("recipe", "auto")], "out": out}
    run("evaluate", settings.pop("model"), options={**where, **settings})


def read_options(options: Options | str | None) -> Options:
    """Options as they are, or those of a run by the path of its config.json, but for model and adapter."""
    if not isinstance(options, str):
        return options or {}
    return {name: value for name, value in saved_options(Path(options)).items() if name not in ("model", "adapter")}


def find_options(mounts: Mounts, model: str, preset: str, adapter: str = "auto") -> dict[str, Any]:
    """Options of `solve` for the model, an adapter on it and the machine. Raises MountError, ConfigError.

    An adapter with a card of its own says itself how tasks are put to it and how it is tuned.
    """
    gpus = find_gpus()
    machine = machine_named(preset, gpus)
    folder, name = find_model(mounts, model)
    there = ", ".join(f"{gpu.name} {gpu.memory_gib:.0f} GiB" for gpu in gpus) or "no GPU"
    print(
        f"machine       {there}; preset {preset}\nmodel         {folder}; preset {name or 'its own card'}", flush=True
    )
    found = {"model": str(folder), **options_for(machine, name)}
    place = Path(adapter) if Path(adapter).is_absolute() else mounts.adapter(adapter)
    if place is None:
        return found
    print(f"adapter       {place}", flush=True)
    says = ("prompt", "encoder", "recipe") if (place / CARD_FILE).is_file() else ()
    return {**{name: value for name, value in found.items() if name not in says}, "adapter": str(place)}


def find_model(mounts: Mounts, wanted: str) -> tuple[Path, str]:
    """(folder, name in `MODELS` or empty). A model with a card of its own says itself how it is used."""
    if wanted == "box":
        return BOX_FOLDER, ""
    if wanted in MODELS:
        fitting = [path for path in mounts.models if _preset_of(mounts, path) == wanted]
        return Mounts(mounts.root, models=tuple(fitting)).model(), wanted
    folder = Path(wanted) if Path(wanted).is_absolute() else mounts.model(wanted)
    return folder, "" if (folder / CARD_FILE).is_file() else _preset_of(mounts, folder)


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
            write_fallbacks(path, tasks)
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
