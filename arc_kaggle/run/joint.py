"""The joint stage: before any task is tuned by itself, the model is trained on the train pairs of all tasks of a run.

It is `arc-kaggle train` on `demonstrations:`, in processes of its own, which ends as a model folder, or as a LoRA
adapter, in the scratch of the run. The workers take that in the place of the base: single-task fine-tuning starts from
it and resets to it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from arc_kaggle.config.model import is_small
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import digest, write_json
from arc_kaggle.system.hardware import all_visible, visible_gpus
from arc_kaggle.system.processes import OFFLINE, die_with_parent, python_path
from arc_kaggle.system.threads import n_threads, thread_environment
from arc_kaggle.tasks.task import Task, task_to_json

ABOUT_FILE = "joint.json"
"""Which folder holds the finished model, and its checksums; it is written last."""
TASKS_FILE = "tasks.json"
STEPS = 1_000_000
"""More than any run takes: the time ends it, and the learning rate falls in time for that."""
TOKENS_PER_STEP = 8192
"""Tokens in an optimizer step, of all processes together."""
SAVE_EVERY = 50
"""Steps between two checkpoints: what a kill costs at most."""
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class JointStage:
    """Trains once per run; what an earlier process of the same run has done of it is gone on with."""

    config: SolveConfig
    folder: Path
    """Below the scratch of the run."""
    deadline: Deadline

    def run(self, tasks: Sequence[Task], wait: Callable[[float], None]) -> Path | None:
        """The folder of the trained model or adapter; None where there was no time for any: the base answers then.

        `wait` is called with the seconds to wait while the processes train. Raises OSError where the disk fails.
        """
        if found := self.finished():
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        visible = {task.id: task_to_json(task.without_solution()) for task in tasks}
        write_json(self.folder / TASKS_FILE, visible)
        until = self.deadline.earlier(60 * self.config.joint_minutes + self.config.grace_seconds)
        for _ in range(self.config.max_tries):
            if self._try(until, wait):
                return self._finish(self.model)
            if until.passed:
                break
        newest = sorted(path for path in self.model.glob("checkpoints/step-*") if path.suffix != ".partial")
        return self._finish(newest[-1]) if newest else None

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def weights(self) -> Literal["all", "lora"]:
        """What is trained: what single tasks train; where they train nothing, all weights of a small model."""
        tuned = self.config.tune.weights
        return ("all" if is_small(self.config.model) else "lora") if tuned == "none" else tuned

    def in_place_of_base(self, found: Path) -> dict[str, Any]:
        """The options of a worker that starts from what was trained. A pretrained adapter is part of it already."""
        return {"adapter": found} if self.weights == "lora" else {"model": found, "adapter": None}

    def finished(self) -> Path | None:
        """The model that an earlier process has ended with; None where it is not there as it was written."""
        try:
            about = json.loads((self.folder / ABOUT_FILE).read_text(encoding="utf-8"))
            found = self.folder / about["model"]
            sound = all(digest(found / name) == expected for name, expected in about["sha256"].items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return found if sound else None

    def _finish(self, found: Path) -> Path:
        sums = {path.name: digest(path) for path in sorted(found.iterdir()) if path.is_file()}
        write_json(self.folder / ABOUT_FILE, {"model": str(found.relative_to(self.folder)), "sha256": sums})
        return found

    def _try(self, until: Deadline, wait: Callable[[float], None]) -> bool:
        """Start the processes and wait for them; whether all ended well. None of them is left running."""
        with (self.folder / "log").open("ab") as log:
            processes = [self._start(environment, log.fileno()) for environment in self._environments()]
        try:
            while not until.passed and {process.poll() for process in processes} <= {None, 0}:
                if all(process.poll() == 0 for process in processes):
                    return True
                wait(POLL_SECONDS)
            return False
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def _start(self, environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "arc_kaggle.cli", "train", *self.options()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **OFFLINE, **environment, "PYTHONPATH": python_path()},
            preexec_fn=die_with_parent,
        )

    def _environments(self) -> Iterator[dict[str, str]]:
        """What each process finds set: one for every GPU, or for every core where there is none."""
        n = self.n_processes
        share = {**thread_environment(max(1, n_threads() // n)), **self._gpus()}
        if n == 1:
            yield share
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        for rank in range(n):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
            yield {**share, **meeting, **ranks}

    def _gpus(self) -> dict[str, str]:
        """All that can be seen, none, or the one that is named."""
        kind, _, number = self.config.device.partition(":")
        if number:
            return {"CUDA_VISIBLE_DEVICES": all_visible()[int(number)]}
        return {"CUDA_VISIBLE_DEVICES": ""} if kind == "cpu" else {}

    @property
    def n_processes(self) -> int:
        """A power of two, so that a step can be shared evenly."""
        most = len(visible_gpus(self.config.device)) or n_threads()
        return 1 if ":" in self.config.device else 1 << (most.bit_length() - 1)

    def options(self) -> list[str]:
        """Of `arc-kaggle train`: the recipe of single tasks, on all of them at once."""
        config, tune = self.config, self.config.tune
        named = {
            "out": self.model,
            "start": config.model,
            "adapter": config.adapter or "",
            "weights": self.weights,
            "data": f"demonstrations:{self.folder / TASKS_FILE}",
            "steps": STEPS,
            "max-minutes": config.joint_minutes,
            "tokens-per-batch": TOKENS_PER_STEP,
            "tokens-per-pass": TOKENS_PER_STEP // self.n_processes,
            "max-tokens": tune.max_tokens,
            "first-max-tokens": tune.max_tokens,
            "keep-background": tune.keep_background,
            "optim.learning-rate": tune.optim.learning_rate,
            "optim.schedule": tune.optim.schedule,
            "optim.warmup-fraction": tune.optim.warmup_fraction,
            "optim.matrices": tune.optim.matrices,
            "hold-out": 0.0,
            "validation-puzzles": 0,
            "save-every": SAVE_EVERY,
            "prompt": config.prompt,
            "encoder": config.encoder,
            "precision": config.precision,
            "seed": config.seed,
            "lora.rank": tune.lora.rank,
            "lora.alpha": tune.lora.alpha,
            **({} if tune.loss == "auto" else {"loss": tune.loss}),
        }
        switches = {
            "four-bit": config.four_bit,
            "cut-vocabulary": config.cut_vocabulary,
            "checkpointing": tune.checkpointing,
            "lora.rslora": tune.lora.rslora,
        }
        words = [word for name, value in named.items() if str(value) for word in (f"--{name}", str(value))]
        words += [f"--{name}" if is_on else f"--{off(name)}" for name, is_on in switches.items()]
        # no set after --against: what the tasks show may be trained on
        return [*words, "--lora.modules", *tune.lora.modules, "--against"]


def off(switch: str) -> str:
    """The word that turns a switch off: no-four-bit, lora.no-rslora."""
    group, dot, name = switch.rpartition(".")
    return f"{group}{dot}no-{name}"
