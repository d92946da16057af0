"""Models are judged by runs of `solve` over tasks with known answers, cut into parts that can be resumed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.config.model import BOX_FOLDER, BY_RECIPE, EngineOptions, options_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.choice import Choice, settle
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.evaluation.columns import Evaluation
from arc_kaggle.evaluation.comparison import compare_evaluations
from arc_kaggle.evaluation.curves import draw_curves
from arc_kaggle.evaluation.model_folders import ModelFolder, find_model_folders
from arc_kaggle.evaluation.parts import Part, column_of, cut, task_digest
from arc_kaggle.evaluation.report import comparisons_text, evaluation_json, scope, scores_text, share
from arc_kaggle.run.messages import Start
from arc_kaggle.system.deadline import Clock, Deadline
from arc_kaggle.system.files import write_json
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import select_tasks
from arc_kaggle.tasks.task import Task


def evaluate(
    config: EvaluateConfig,
    clock: Clock = time.monotonic,
    say: Callable[[str], None] = print,
    start: Start | None = None,
) -> Evaluation:
    """Do the parts that are not through, write evaluation.json and curves.png; `say` gets a line a part.

    `start` begins workers in place of child processes, as for `solve`.

    Raises ArcKaggleError subclasses for bad input, and for results of other settings, before anything is solved.
    """
    until = Deadline.after(60 * config.time_limit_minutes, clock)
    whole = load_tasks(config.tasks)
    tasks = select_tasks(whole, config.select)
    if unknown := [task.id for task in tasks if not task.has_solution]:
        raise TaskError(f"tasks {config.tasks}: {len(unknown)} have no solution, the first is {unknown[0]}")
    models = find_models(config)
    parts = [part for model in models for part in plan(config, model, tasks)]
    done = {part: seconds for part in parts if (seconds := part.seconds()) is not None}
    _make_folder(config.out)
    try:
        for part in run_parts([part for part in parts if part not in done], config, until, done, start):
            _log(config.out / "log.txt", status(part, parts, done), say)
    finally:
        evaluation = gather(config, tasks, len(whole), [part for part in parts if part in done])
        _write(config.out, evaluation)
    return evaluation


def find_models(config: EvaluateConfig) -> list[ModelFolder]:
    """The models to judge, or the one adapter on its model. Raises ModelError."""
    named = config.checkpoints or (BOX_FOLDER,)
    return find_model_folders((config.adapter,), *named) if config.adapter else find_model_folders(named, config.base)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder {out}: cannot be written to ({error.strerror})") from error


def plan(config: EvaluateConfig, model: ModelFolder, tasks: Sequence[Task]) -> list[Part]:
    """All parts of a model; recipes take turns, so that those compared are over the same tasks early on."""
    named = model.card.recipe if model.card else "lora"
    by_recipe = []
    for recipe in dict.fromkeys(named if recipe == "auto" else recipe for recipe in config.recipes):
        engine = choose_engine(config, model, recipe).config.engine
        template = replace(_template(config, model, recipe), engine=engine, out=config.out / model.name / recipe)
        by_recipe.append(cut(tasks, config.part_size, model, template))
    return [part for turn in zip(*by_recipe, strict=True) for part in turn]


def choose_engine(config: EvaluateConfig, model: ModelFolder, recipe: str) -> Choice:
    """By the sizes of the model."""
    return settle(_template(config, model, recipe))


def _template(config: EvaluateConfig, model: ModelFolder, recipe: str) -> SolveConfig:
    """Fine-tuning goes on from an adapter, as it does in a submission."""
    shared = options_of(config, EngineOptions)
    tune = BY_RECIPE if recipe == "none" else config.given_tune
    folder, adapter = (model.base, model.folder) if model.base else (model.folder, None)
    return SolveConfig(config.tasks, config.out, model=folder, adapter=adapter, recipe=recipe, tune=tune, **shared)


def run_parts(
    parts: Sequence[Part],
    config: EvaluateConfig,
    until: Deadline,
    done: dict[Part, float],
    start: Start | None = None,
) -> Iterator[Part]:
    """Do parts and yield each when it is through and among those done; none begins after `until`."""
    for part in parts:
        if until.passed:
            return
        done[part] = part.run(start)
        yield part


def status(part: Part, parts: Sequence[Part], done: dict[Part, float]) -> str:
    """A line of the log: how far it is, what is solved, what it took, what is left."""
    alike = [other for other in parts if _line(other) == _line(part)]
    column = column_of([other for other in alike if other in done])
    n_tasks = sum(len(other.tasks) for other in alike)
    return (
        f"{len(done)} of {len(parts)} parts done; {column.name}: {column.n_tasks} of {n_tasks} tasks, test outputs "
        f"solved {share(column.count('two_attempts'), len(column.outputs))}; this part {done[part]:.0f} s; about "
        f"{seconds_left(parts, done) / 60:.0f} min left"
    )


def _line(part: Part) -> tuple[ModelFolder, str]:
    return part.model, part.config.recipe


def seconds_left(parts: Sequence[Part], done: dict[Part, float]) -> float:
    """What the parts that are left should take: their tasks times the mean of a task under their recipe so far."""

    def mean(recipe: str) -> float:
        alike = [part for part in done if part.config.recipe == recipe] or list(done)
        return sum(done[part] for part in alike) / sum(len(part.tasks) for part in alike)

    return sum(len(part.tasks) * mean(part.config.recipe) for part in parts if part not in done)


def _log(path: Path, line: str, say: Callable[[str], None]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    say(line)


def gather(config: EvaluateConfig, tasks: Sequence[Task], n_whole: int, done: Sequence[Part]) -> Evaluation:
    """The evaluation of all parts that are through."""
    lines = dict.fromkeys(map(_line, done))
    columns = [column_of([part for part in done if _line(part) == line]) for line in lines]
    packages = ("torch", "transformers", "peft", "numpy")
    made_with = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "models": {part.model.name: part.model.digest for part in done},
        "options": {name: str(value) for name, value in options_of(config, EngineOptions).items()},
        "engines": sorted({str(choose_engine(config, *line)) for line in lines}),
    }
    digests = {task.id: task_digest(task) for task in tasks}
    return Evaluation(config.tasks, config.select, len(tasks), n_whole, digests, tuple(columns), made_with)


def _write(out: Path, evaluation: Evaluation) -> None:
    write_json(out / "evaluation.json", evaluation_json(evaluation))
    if evaluation.columns:
        draw_curves(evaluation.columns, scope(evaluation), out / "curves.png")


def compare(files: Sequence[Path]) -> str:
    """The tables of evaluations made at different times, and their columns compared. Raises ConfigError."""
    evaluations = [Evaluation.read(path) for path in files]
    tables = [scores_text(evaluation) for evaluation in evaluations]
    return "\n\n".join([*tables, comparisons_text(compare_evaluations(evaluations))])
