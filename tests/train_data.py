"""Small rules to train on, an evaluation set of one task, and runs of a few tiny steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.new_model import new_model
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import as_grid, grid_lists
from arc_kaggle.tasks.task import Pair, Task, task_to_json
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.log import read_log
from arc_kaggle.training.mixture import load_mixture

DISGUISE = Augmentation(5, (3, 1, 4, 0, 5, 9, 2, 6, 8, 7))


def random_task(task_id: str, n_train: int = 3, side: int = 3) -> Task:
    """Every output is its input turned upside down; grids follow from the id."""
    rng = np.random.default_rng(list(task_id.encode()))
    grids = [as_grid(rng.integers(10, size=(side, side + i % 2))) for i in range(n_train + 1)]
    pairs = [Pair(grid, as_grid(grid[::-1])) for grid in grids]
    return Task(task_id, tuple(pairs[:-1]), tuple(pairs[-1:]))


def disguised(pair: Pair) -> Pair:
    assert pair.output is not None
    return Pair(DISGUISE.apply(pair.input), DISGUISE.apply(pair.output))


CLEAN = [random_task(f"clean{i}") for i in range(8)]
SECRET = random_task("secret")


def write_tasks_file(path: Path, tasks: list[Task]) -> str:
    path.write_text(json.dumps({task.id: task_to_json(task) for task in tasks}))
    return str(path)


def write_rules(path: Path, rules: dict[str, int]) -> str:
    """A pair file with rules of so many pairs each."""
    lines = [
        {"task": name, "pairs": [[grid_lists(p.input), grid_lists(p.input)] for p in random_task(name, n).train]}
        for name, n in rules.items()
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def tiny_config(folder: Path, **changes: Any) -> TrainConfig:
    """Three tiny steps on eight rules of files in the folder, against a set of one task."""
    data, against = write_tasks_file(folder / "data.json", CLEAN), write_tasks_file(folder / "against.json", [SECRET])
    sizes: dict[str, Any] = {"hidden_size": 32, "n_layers": 1, "steps": 3, "tokens_per_batch": 512, "max_tokens": 256}
    config = TrainConfig(
        folder / "out",
        (data,),
        precision="fp32",
        hold_out=0.6,
        validation_puzzles=2,
        against=(against,),
        **sizes,
    )
    return replace(config, **changes)


def source_of(config: TrainConfig, model: LoadedModel | None = None) -> ExampleSource:
    """What draws the examples of a run."""
    model = model or new_model(32, 1, 0)
    return ExampleSource(load_mixture(config), model.notation, config)


def rows_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The log, without what the clock says."""
    rows = read_log(config.out / "log.jsonl")
    return [{key: value for key, value in row.items() if key not in ("seconds", "tokens_per_s")} for row in rows]


LEAKS = {
    "by its id": (
        replace(random_task("other"), id="secret"),
        "rule secret: 4 of 4 pairs leak, an evaluation task has the same id",
    ),
    "by a train pair": (
        replace(random_task("other"), test=(disguised(SECRET.train[1]),)),
        "rule other: 1 of 4 pairs leak, task secret has them too",
    ),
    "by a test pair": (
        replace(random_task("other"), train=(disguised(SECRET.test[0]), *random_task("other").train)),
        "rule other: 1 of 5 pairs leak, task secret has them too",
    ),
}
leaks = pytest.mark.parametrize(("leaking", "said"), LEAKS.values(), ids=LEAKS.keys())


def with_leak(config: TrainConfig, leaking: Task) -> TrainConfig:
    return replace(config, data=(*config.data, write_tasks_file(config.out.parent / "leak.json", [leaking])))
