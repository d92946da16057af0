"""A folder like /kaggle/input, in either of the conventions by which Kaggle mounts things."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arc_kaggle.answering.submission import choose_attempts, submission_json
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.kaggle.mounts import TEST_FILE
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.tasks.grid import N_COLOURS
from arc_kaggle.tasks.task import Task, task_to_json

SLUG = "arc-prize-2026-arc-agi-2"


@dataclass(frozen=True)
class Tree:
    """`flat`: everything at ROOT/SLUG; else below competitions/, models/OWNER, datasets/OWNER and so on."""

    root: Path
    flat: bool = False

    def add_competition(self, tasks: Tasks, slug: str = SLUG) -> Path:
        folder = self.root / slug if self.flat else self.root / "competitions" / slug
        folder.mkdir(parents=True)
        hidden = {task.id: task_to_json(task.without_solution()) for task in tasks}
        (folder / TEST_FILE).write_text(json.dumps(hidden), encoding="utf-8")
        sample = {task.id: [choose_attempts(query, []) for query in task.queries] for task in tasks}
        (folder / "sample_submission.json").write_text(json.dumps(submission_json(sample)), encoding="utf-8")
        return folder

    def add_model(self, name: str = "box", source: Path = BOX_FOLDER) -> Path:
        folder = (
            self.root / name if self.flat else self.root / "models" / "someone" / name / "transformers" / "small" / "1"
        )
        shutil.copytree(source, folder)
        return folder

    def add_bundle(self, source: Path, name: str = "wheels") -> Path:
        folder = self.root / name if self.flat else self.root / "datasets" / "someone" / name
        shutil.copytree(source, folder)
        return folder


def hidden_tasks(n: int) -> Tasks:
    """Tasks as at a rerun: other colours and other ids than any that is known, no solutions. Their grids are those of
    the ARC-AGI-1 training tasks with the shortest prompts, which the model in the box can mostly write down.
    """
    chosen = load_tasks("arc1:training", f"shortest:{n}")
    return tuple(_hidden(task, f"{0xABC00000 + i:08x}", np.random.default_rng(i)) for i, task in enumerate(chosen))


def _hidden(task: Task, task_id: str, rng: np.random.Generator) -> Task:
    colours = tuple(int(colour) for colour in rng.permutation(N_COLOURS))
    recoloured = Augmentation(colours=colours).apply_task(task).without_solution()
    return Task(task_id, recoloured.train, recoloured.test)
