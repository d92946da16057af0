"""The log of a training run: one JSON object for each step, on a line of its own, and a dashboard if asked for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.system.files import strict_json

Row = dict[str, Any]
Tracker = tuple[Callable[[Row], None], Callable[[], None]]
"""Two functions of a dashboard: one takes a row, one ends the run."""


class TrainLog:
    """Appends rows to OUT/log.jsonl. Rows after `step`, which a stopped run wrote and this one repeats, are removed.

    Only the process that `leads` a team writes.
    """

    def __init__(self, config: TrainConfig, settings: Row, step: int, leads: bool = True) -> None:
        self.path = config.out / "log.jsonl"
        self.trackers: list[Tracker] = []
        if leads:
            keep_rows(self.path, step)
            self.trackers = [TRACKERS[name](config.out, settings) for name in config.track]

    def write(self, row: Row) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            print(strict_json(row), file=file)
        for write, _ in self.trackers:
            write(row)

    def close(self) -> None:
        for _, close in self.trackers:
            close()


def keep_rows(path: Path, step: int) -> None:
    """Keep the rows of a log up to a step, none for step 0. The file is replaced as a whole."""
    kept = [row for row in read_log(path) if row["step"] <= step] if step else []
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(strict_json(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(partial, path)


def read_log(path: Path) -> list[Row]:
    """Read all whole rows, because a killed run may leave a torn last line; no rows if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def check_trackers(config: TrainConfig) -> None:
    """Raise ConfigError for a dashboard whose package is not installed."""
    for name in config.track:
        if find_spec(name) is None:
            raise ConfigError(f"option track: found no package {name}, expected it; pip install {name}")


def _tensorboard(out: Path, settings: Row) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(out / "tensorboard"))

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "step" and value is not None:
                writer.add_scalar(name, value, row["step"])

    return write, writer.close


def _wandb(out: Path, settings: Row) -> Tracker:
    wandb: Any = import_module("wandb")
    run_id = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]  # a resumed run goes on there, too
    run = wandb.init(project="arc_kaggle", name=out.name, id=run_id, dir=str(out), config=settings, resume="allow")
    return lambda row: run.log(row, step=row["step"]), run.finish


TRACKERS: dict[str, Callable[[Path, Row], Tracker]] = {"tensorboard": _tensorboard, "wandb": _wandb}
