"""Command `show`: it draws tasks, their views, or their prompts token by token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.options import Seed, Views, check_ranges
from arc_kaggle.config.tune import Loss
from arc_kaggle.drawing import draw_example, draw_task, example_to_terminal, print_text, task_to_terminal, view_title
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tasks.augmentation import Augmentation, spread_augmentations, task_rng
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.entries import skipping
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt, training_prompt, with_answer
from arc_kaggle.text.prompt_format import Prompt
from arc_kaggle.text.tokens import tokenize

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class ShowConfig:
    """Draw tasks, their views, or their prompts token by token."""

    tasks: str
    """Task set or file, as for `solve`."""
    select: str = "0"
    """Which of the tasks, as for `solve`; the default is the first one."""
    skip_bad: bool = False
    """Leave out tasks and files that cannot be read, with a line each."""
    what: Literal["task", "view", "training_prompt", "query_prompt"] = "task"
    """task: its pairs. view: the task seen through an augmentation. training_prompt: what test-time fine-tuning trains
    on, token by token. query_prompt: what the model is asked, token by token."""
    view: Views = 0
    """Position of the view among those that `solve` would take; 0 is the task as it is."""
    seed: Seed = 0
    """Seed of the views."""
    model: Path = BOX_FOLDER
    """Model folder whose tokenizer makes the prompt."""
    prompt: str = "auto"
    """The prompt format, as for `solve`."""
    encoder: str = ""
    """How grids are written as text, as for `solve`."""
    loss: Loss | Literal["auto"] = "auto"
    """Which tokens of a training prompt are trained, as for `solve --tune.loss`."""
    out: Path | None = None
    """File to draw into, .svg or .png; of several tasks each adds its id to the name. Where it is not given, the
    terminal is drawn into."""

    def __post_init__(self) -> None:
        check_ranges(self)


def run(config: ShowConfig) -> int:
    """Draw into the terminal, or say where the pictures went."""
    for text in show(config, shutil.get_terminal_size().columns):
        print_text(text)
    return 0


def show(config: ShowConfig, width: int) -> Iterator[Text]:
    """Draw what is asked for; yields a text for the terminal, `width` characters wide, or where the picture went."""
    tasks = load_tasks(config.tasks, config.select, skipping(config.skip_bad))
    for task in tasks:
        path = config.out
        if path is not None and len(tasks) > 1:
            path = path.with_name(f"{path.stem}_{safe_name(task.id)}{path.suffix}")
        yield _draw(task, config, path, width)


def _draw(task: Task, config: ShowConfig, path: Path | None, width: int) -> Text:
    augmentation = _augmentation(task, config)
    view, title = augmentation.apply_task(task), repr(task)
    if config.what == "task":
        view = task
    elif config.view:
        title = view_title(task, augmentation)
    if config.what in ("task", "view"):
        if path is None:
            return task_to_terminal(view, title, width)
        draw_task(view, path, title)
        return _drawn(path)
    return _draw_prompt(view, config, path, title, width)


def _draw_prompt(view: Task, config: ShowConfig, path: Path | None, title: str, width: int) -> Text:
    from arc_kaggle.models.loading import load_tokenizer, pick_preset

    tokenizer = load_tokenizer(config.model)
    notation = pick_preset(config.model, tokenizer, config.prompt, config.encoder).notation(tokenizer)
    notation = notation if config.loss == "auto" else replace(notation, loss=config.loss)
    example = tokenize(_prompt(view, config.what, notation), tokenizer)
    if path is None:
        return example_to_terminal(example, tokenizer, title, width)
    draw_example(example, tokenizer, path, title)
    return _drawn(path)


def _drawn(path: Path) -> Text:
    from rich.text import Text

    return Text(f"drawn into {path}")


def _prompt(view: Task, what: str, notation: Notation) -> Prompt:
    if what == "training_prompt":
        return training_prompt(view, notation)
    query = Query(view, 0)
    prompt = query_prompt(query, notation)
    return prompt if query.answer is None else with_answer(prompt, query.answer, notation)


def _augmentation(task: Task, config: ShowConfig) -> Augmentation:
    spread = spread_augmentations(config.view + 1, task_rng(task, config.seed, "views"), len(task.train))
    return next(islice(spread, config.view, None))
