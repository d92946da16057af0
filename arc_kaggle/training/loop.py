"""The training loop: steps in one or two stages, validation, checkpoints, and a stop in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from arc_kaggle.config.train import SAVED_BESIDE, TrainConfig
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.paths import remove_below
from arc_kaggle.system.steps import bar
from arc_kaggle.training.average import MovingAverage
from arc_kaggle.training.checkpoint import Checkpoint, Progress, save_checkpoint
from arc_kaggle.training.log import Row, TrainLog
from arc_kaggle.training.packing import Batch, BatchStream
from arc_kaggle.training.trainee import Facts, Trainee, Weights, first_stage_weights
from arc_kaggle.tuning.distributed import Team
from arc_kaggle.tuning.optimizer import Optimizer

Batches = list[Batch[Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A stage of training: the steps from `first` to `last`, counted from 1, and the weights that they train."""

    first: int
    last: int
    weights: Weights
    learning_rate: float


def stages_of(config: TrainConfig, weights: Weights) -> list[Stage]:
    """The stages of a run: some modules alone, everything, or one after the other."""
    n_first, rate = config.first_stage_steps, config.optim.learning_rate
    stages: list[Stage] = []
    if n_first:
        some = first_stage_weights(weights, config.first_stage_modules)
        stages.append(Stage(1, n_first, some, config.first_stage_learning_rate or rate))
    if n_first < config.steps:
        stages.append(Stage(n_first + 1, config.steps, weights, rate))
    return stages


class Measuring(Protocol):
    """The protocol of validation: it measures a model whenever that is saved."""

    @property
    def n_puzzles(self) -> dict[str, int]: ...

    @property
    def has_examples(self) -> bool:
        """Whether there is a loss at all."""
        ...

    def measure(self, model: LoadedModel, prefix: str = "") -> dict[str, float | int | None]:
        """Losses and scores of a model; their names begin with `PREFIXvalidation_`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """The parts of a run that do not change with its steps."""

    config: TrainConfig
    settings: Row
    """The options that shape the results of the run; every checkpoint holds them."""
    trainee: Trainee
    stream: BatchStream
    validation: Measuring
    team: Team
    facts: Callable[[Progress, Row], Facts]
    """Computes the facts of the model card."""


class TrainLoop:
    """The state of a run, new or resumed: all that changes with its steps."""

    def __init__(self, around: Surroundings, clock: Clock) -> None:
        self.around, self.clock, self.config = around, clock, around.config
        self.weights = around.trainee.weights
        self.stages = stages_of(around.config, self.weights)
        self.average = MovingAverage(self.weights.values(), self.config.ema) if self.config.ema else None
        self.progress = Progress()
        self.begins_anew = True
        self.optimizer = self._optimizer_of(self.stages[0])

    def _optimizer_of(self, stage: Stage) -> Optimizer:
        """Make a new optimizer, and freeze the weights that the stage does not train."""
        config = self.config
        for name, weight in self.weights.items():
            weight.requires_grad_(name in stage.weights)
        optim, n_steps = replace(config.optim, learning_rate=stage.learning_rate), stage.last - stage.first + 1
        trained, model = stage.weights.values(), self.around.trainee.model
        return Optimizer(model, trained, optim, n_steps, config.decay_fraction, self.around.team)

    def run(self) -> None:
        """Do the remaining steps."""
        config, first, leads = self.config, self.progress.step, self.around.team.leads
        with closing(TrainLog(config, self.around.settings, first, leads)) as log:
            if not first and leads:
                log.write({"step": 0, **self.measure()})
            self.clock.begin(self.progress.time_share)
            with bar(total=config.steps, initial=first, unit="step", disable=not leads) as shown:
                for row in self._steps():
                    if leads:
                        self.keep(row, log)
                    shown.set_postfix(loss=f"{row['loss']:.3f}", tokens_per_s=row["tokens_per_s"], refresh=False)
                    shown.update()
        self.around.team.totals(0)  # none ends before the last model is saved

    def _steps(self) -> Iterator[Row]:
        batches, progress = self._batches(), self.progress
        while not progress.is_through(self.config.steps):
            for stage in self.stages[1:]:
                if stage.first == progress.step + 1:
                    self.optimizer = self._optimizer_of(stage)
            yield self._step(next(batches))

    def _batches(self) -> Iterator[Batches]:
        """Yield the batches of this process for each coming step."""
        team, n_passes = self.around.team, self.config.n_passes
        mine, steps = range(team.rank, n_passes, team.size), range(self.progress.step + 1, self.config.steps + 1)
        workers = self.config.data_workers
        loader = DataLoader(
            cast(Any, self.around.stream),
            batch_size=None,
            sampler=((step, number) for step in steps for number in mine),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=4 if workers else None,
            pin_memory=team.device.type == "cuda",
        )
        passes = iter(loader)
        while chunk := list(islice(passes, len(mine))):
            yield [batch for one in chunk for batch in one]

    def _step(self, batches: Batches) -> Row:
        progress, team, before = self.progress, self.around.team, self.clock.seconds
        progress.step += 1
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, 2, progress.step]).generate_state(1)[0]))
        in_last_stage = progress.step >= self.stages[-1].first
        with self.around.trainee.at_its_fastest():  # not around the validation: engines know torch's attention alone
            loss = self.optimizer.update([batch[:3] for batch in batches], progress.time_share * in_last_stage)
        if self.average:
            self.average.update()
        share = max(progress.time_share, self.clock.time_share) if team.leads else 0.0
        n_tokens, progress.time_share = team.totals(sum(batch.n_tokens for batch in batches), share)
        progress.tokens += int(n_tokens)
        progress.seconds = self.clock.seconds
        speed = round(n_tokens / max(1e-9, progress.seconds - before))
        rate = self.optimizer.groups[0]["lr"]
        counts = {"tokens": progress.tokens, "seconds": round(progress.seconds, 3), "tokens_per_s": speed}
        return {"step": progress.step, "loss": loss, "learning_rate": rate, **counts}

    def keep(self, row: Row, log: TrainLog) -> None:
        """Log a step. When it is due, validate, save the model, and write a checkpoint, which is a model folder too."""
        progress, config = self.progress, self.config
        if not progress.is_through(config.steps) and progress.step % config.save_every:
            return log.write(row)
        begun = time.monotonic()
        row |= self.measure()
        if self.begins_anew:
            self._remove_earlier_run()
        self._save_model(config.out, row)
        if config.keep_best and self._is_best(row):
            self._save_model(config.out / "best", row)
        log.write(row)  # before the checkpoint: a run that goes on from it keeps the rows up to its step
        checkpoint = Checkpoint(progress, self.around.settings, self.state())
        write_model = partial(self._save_model, row=row)
        save_checkpoint(config.out / "checkpoints", checkpoint, config.keep_checkpoints, write_model)
        self.clock.took_to_save(time.monotonic() - begun)

    def _remove_earlier_run(self) -> None:
        """Remove the models beside that of OUT which an earlier run left there, whose checkpoints are gone."""
        for name in SAVED_BESIDE:
            remove_below(self.config.out, self.config.out / name)
        self.begins_anew = False

    def measure(self) -> Row:
        """Validate the weights, and their moving average."""
        begun, model = time.monotonic(), self.around.trainee.model
        row = self.around.validation.measure(model)
        if self.average:
            with self.average.in_place():
                row |= self.around.validation.measure(model, "ema_")
        self.clock.took_to_save(time.monotonic() - begun)
        return row

    def _is_best(self, row: Row) -> bool:
        """Whether the validation loss is below that of the best model so far."""
        card = read_card(self.config.out / "best")
        least = card.facts.get("validation_loss") if card else None  # that of a model that diverged was no number
        return least is None or bool(row["validation_loss"] < least)

    def _save_model(self, folder: Path, row: Row) -> None:
        facts = self.around.facts(self.progress, row)
        self.around.trainee.save(folder, facts)
        if self.average:
            with self.average.in_place():
                self.around.trainee.save(folder / "ema", facts)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, except the options and the number of the step."""
        average = self.average.state() if self.average else None
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        return {"weights": weights, "optimizer": self.optimizer.state(), "average": average}

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state that the run had when it wrote this checkpoint."""
        self.begins_anew, self.progress = False, checkpoint.progress
        self.clock.seconds_before = checkpoint.progress.seconds
        for name, value in checkpoint.state["weights"].items():
            self.weights[name].copy_(value)
        stage = next(stage for stage in self.stages[::-1] if stage.first <= max(1, self.progress.step))
        self.optimizer = self._optimizer_of(stage)
        self.optimizer.restore(checkpoint.state["optimizer"])
        if self.average:
            self.average.restore(checkpoint.state["average"])


class Clock:
    """The clock of a run: its seconds, earlier parts included, and the share of its time limit that is used.

    A part that goes on begins with the share that was used before it, and spreads the rest over the time that is left.
    """

    def __init__(self, started: float, max_minutes: float | None) -> None:
        self.started, self.max_minutes = started, max_minutes
        self.seconds_before = self.first_second = self.first_share = self.saving_seconds = 0.0

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def begin(self, time_share: float) -> None:
        """Start the clock: the first step of this part comes now, after the share `time_share` of the time."""
        self.first_second, self.first_share = self.seconds, time_share

    def took_to_save(self, seconds: float) -> None:
        """Reserve one and a half times these seconds for the last saving."""
        self.saving_seconds = max(self.saving_seconds, 1.5 * seconds)

    @property
    def time_share(self) -> float:
        """The share of the time that is used, 0..1; at 1 the last saving must begin. 0 without a limit."""
        if self.max_minutes is None:
            return 0.0
        left = 60 * self.max_minutes - self.saving_seconds - self.first_second
        used = min(1.0, (self.seconds - self.first_second) / left) if left > 0 else 1.0
        return self.first_share + (1 - self.first_share) * used
