"""A training run is set up from its options, resumed where it stopped, and ends with a model folder and its card."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.model import card_folder
from arc_kaggle.config.options import names_aside
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.text.tokenizer_checks import check_example
from arc_kaggle.training.checkpoint import Checkpoint, Progress, load_checkpoint
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.log import Row, check_trackers
from arc_kaggle.training.loop import Clock, Measuring, Surroundings, TrainLoop
from arc_kaggle.training.mixture import Mixture, load_mixture
from arc_kaggle.training.packing import BatchStream, Examples
from arc_kaggle.training.prompt_data import PromptMixture, PromptSource, load_prompt_mixture
from arc_kaggle.training.trainee import Facts, make_trainee
from arc_kaggle.training.validation import make_validation
from arc_kaggle.tuning.distributed import Team, join_team


def train(config: TrainConfig) -> Facts:
    """Train, write the model folder, return the facts of its card. Raises LeakError, ConfigError, TaskError.

    Where `out` holds checkpoints, goes on from the newest.
    """
    clock, settings = Clock(time.monotonic(), config.max_minutes), settings_of(config)
    check_trackers(config)
    checkpoint = load_checkpoint(config.out / "checkpoints", settings)
    check_minutes(config, checkpoint)
    team = join_team()
    check_team(config, team)
    mixture = load_prompt_mixture(config) if config.on_prompts else load_mixture(config)
    trainee = make_trainee(config, team.device)
    model = trainee.model
    source, validation = data_of(config, mixture, model)
    check_validation(config, mixture, validation)

    def facts(progress: Progress, row: Row) -> Facts:
        return card_facts(config, mixture, validation, progress, row)

    stream = BatchStream(source, model.pad_id)
    loop = TrainLoop(Surroundings(config, settings, trainee, stream, validation, team, facts), clock)
    if checkpoint:
        loop.restore(checkpoint)
    loop.run()
    team.leave()
    card = read_card(config.out)
    assert card is not None, "a run ends with a saved model"
    return card.facts


def data_of(config: TrainConfig, mixture: Mixture | PromptMixture, model: LoadedModel) -> tuple[Examples, Measuring]:
    """Make the training and the validation data of a model. Raises PromptError, ConfigError."""
    if isinstance(mixture, PromptMixture):
        prompts = PromptSource(mixture, model.tokenizer, config)
        return prompts, prompts.validation(model.pad_id)
    source = ExampleSource(mixture, model.notation, config)
    check_first(source)
    return source, make_validation(source, model.pad_id)


def check_validation(config: TrainConfig, mixture: Mixture | PromptMixture, validation: Measuring) -> None:
    """Refuse to choose the best model by a loss that nothing gives. Raises ConfigError."""
    if config.keep_best and not validation.has_examples:
        held, n_items = len(mixture.held_out_ids), mixture.n_items
        raise ConfigError(
            f"option keep_best: found {held} of {n_items} held out, and of them none that fits max_tokens "
            f"{config.max_tokens}, expected one or more that the best model is chosen by; give --hold-out larger than "
            f"{config.hold_out:g}, or --max-tokens, or leave --keep-best out"
        )


def check_minutes(config: TrainConfig, checkpoint: Checkpoint | None) -> None:
    """Refuse to go on with a run whose earlier parts took all the minutes that it may take. Raises ConfigError."""
    if checkpoint is None or config.max_minutes is None or checkpoint.progress.is_through(config.steps):
        return
    before = checkpoint.progress
    if before.seconds >= 60 * config.max_minutes:
        raise ConfigError(
            f"option max_minutes: found {config.max_minutes:g}, expected more than the {before.seconds / 60:.1f} that "
            f"the run in {config.out} has taken up to step {before.step} of {config.steps}: the limit counts all "
            f"resumes of a run. Name a larger one, or none."
        )


def check_team(config: TrainConfig, team: Team) -> None:
    """Refuse a step that its processes cannot share evenly. Raises ConfigError."""
    if config.n_passes % team.size:
        raise ConfigError(
            f"option tokens_per_pass: found {config.n_passes} passes a step for {team.size} processes, expected a "
            f"multiple of {team.size}: {config.tokens_per_batch // team.size} or a part of that"
        )


def check_first(source: ExampleSource) -> None:
    """Refuse data whose examples teach nothing, before the first step. Raises PromptError."""
    first = source.draw(np.random.default_rng(source.config.seed), source.config.max_tokens)
    check_example(first, source.notation, "training data")


def settings_of(config: TrainConfig) -> Row:
    """The options that shape the results of a run, as JSON values."""
    return {name: value for name, value in config_to_json(config).items() if name not in names_aside(TrainConfig)}


def card_facts(
    config: TrainConfig, mixture: Mixture | PromptMixture, validation: Measuring, progress: Progress, row: Row
) -> Facts:
    """What a reader must know of a model: data, leaks, tokens, time, losses, settings."""
    return {
        "data": [Path(entry).name for entry in config.data],
        "started_from": _facts_of(config.start and card_folder(config.start, config.adapter)),
        "leaks_trained_on": list(mixture.leaks) if config.allow_leak else [],
        "leaks_left_out": [] if config.allow_leak else list(mixture.leaks),
        "held_out_rules": mixture.held_out_ids,
        "steps": progress.step,
        "tokens": progress.tokens,
        "hours": round(progress.seconds / 3600, 3),
        "loss": row["loss"],
        **{key: value for key, value in row.items() if "validation_" in key},
        "validation_puzzles": validation.n_puzzles,
        "torch": torch.__version__,
        "settings": {key: value for key, value in settings_of(config).items() if key not in ("start", "data")},
    }


def _facts_of(start: Path | None) -> Facts | None:
    """The facts of the model that training started from; None for a new model."""
    if start is None:
        return None
    card = read_card(start)
    return card.facts if card else {"model": start.name}
