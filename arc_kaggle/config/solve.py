"""The options of `arc-kaggle solve`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from arc_kaggle.config.adapter import ADAPTER_FILE, TASK_FILE, lora_of
from arc_kaggle.config.answer import NEED_SCORES
from arc_kaggle.config.engines import DECODING, Feature, check_engine, check_tuner
from arc_kaggle.config.micro import has_micro_steps
from arc_kaggle.config.model import ModelOptions, has_grid_positions
from arc_kaggle.config.options import (
    ASIDE,
    Count,
    Minutes,
    NotNegative,
    Positive,
    check_ranges,
)
from arc_kaggle.config.tune import LoraConfig
from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SolveConfig(ModelOptions):
    """Solve tasks: fine-tune on each, answer it under many views, vote, and write submission.json.

    For example: arc-kaggle solve --tasks arc1:evaluation --select shortest:5 --out out/first
    """

    tasks: str
    """The tasks: arc1:training, arc1:evaluation, arc2:training, arc2:evaluation, or a path to files in Kaggle's
    format."""
    out: Annotated[Path, ASIDE]
    """Folder for submission.json, predictions/, report.json and config.json. A run that was interrupted goes on from
    what is there."""
    select: str = ""
    """Which of the tasks: a position, a slice such as 0:20, ids with commas between them, or shortest:N. All where it
    is empty."""
    skip_bad: Annotated[bool, ASIDE] = False
    """Leave out tasks and files that cannot be read, with a line for each, and go on with the others."""
    time_limit_minutes: Annotated[Minutes, ASIDE] = 700.0
    """Minutes from the start until everything is on disk; the default is Kaggle's 12 hours less 20 minutes. In a
    notebook the start is that of its kernel, or the Unix time in ARC_KAGGLE_STARTED; else that of this command."""
    overwrite: Annotated[bool, ASIDE] = False
    """Replace the results that an earlier run left in --out."""
    max_tries: Annotated[Count, ASIDE] = 4
    """Most tries of a task whose worker was lost or ran out of memory; each further try needs less memory. After the
    last one the task keeps the answers that it has."""
    grace_seconds: Annotated[NotNegative, ASIDE] = 60.0
    """Seconds that a worker may take beyond the time limit of its stage before it counts as hung and is ended."""
    ray_address: Annotated[str, ASIDE] = ""
    """Address of a Ray cluster on whose nodes the workers run, or local for one on this machine; empty for no Ray.
    Every node needs this package, and the model at the same path. This needs pip install 'arc_kaggle[ray]'."""
    memory_gb: Annotated[Positive | None, ASIDE] = None
    """Most host memory of all workers together, in GB. Above it the largest worker is ended, and its task is tried
    again with less memory. Where it is not given, 90% of what the machine, or the container, has."""
    scratch: Annotated[Path | None, ASIDE] = None
    """Folder for the adapters of unfinished tasks, and for compile caches; the system's temporary folder where it is
    not given. A run that goes on finds its own again."""
    scratch_gb: Annotated[Positive, ASIDE] = 20.0
    """Most GB of adapters in that folder; the least recently used is evicted first, and made again when it is
    needed."""
    keep_adapters: Annotated[Path | None, ASIDE] = None
    """Folder in which the tuned weights of every task stay, in a folder of its own: a LoRA adapter in peft's format,
    with the task's id in task.json."""
    adapters: Path | None = None
    """Folder that --keep-adapters has filled: its tasks are answered with those weights again, and none is tuned."""
    joint_minutes: NotNegative = 0.0
    """Minutes in which the model is trained on the train pairs of all tasks together, before any task is tuned by
    itself: what fine-tuning trains, all weights or one LoRA adapter for all tasks. They are part of the time limit; 0
    for none."""
    plan: Path | None = None
    """The plan.json of an earlier run, whose stages are then done again in the same order, whatever the clock says."""

    def __post_init__(self) -> None:
        ModelOptions.__post_init__(self)
        check_ranges(self)
        if self.adapters:
            object.__setattr__(self, "tune", replace(self.tune, lora=kept_lora(self.adapters, self.tune.lora)))
        if self.four_bit and self.tune.weights == "all":
            raise ConfigError(
                "option four_bit: found tune.weights 'all', expected lora or none, for weights in 4 bits cannot be "
                "trained; choose another recipe, such as lora"
            )
        _check_micro_steps(self)
        if self.joint_minutes and self.ray_address:
            raise ConfigError(
                f"option joint_minutes: found {self.joint_minutes:g} on a cluster, expected one machine; leave the "
                "joint stage out"
            )
        if self.joint_minutes >= self.time_limit_minutes:
            raise ConfigError(
                f"option joint_minutes: found {self.joint_minutes:g} of {self.time_limit_minutes:g} minutes in all, "
                "expected less; lower it, or raise --time-limit-minutes"
            )
        if self.engine != "auto":
            check_engine(self.engine, wanted_features(self))
        if self.tuner != "peft" or self.tune.weights != "none":  # which stands for no tuner, too
            check_tuner(self.tuner, set(wanted_features(self)) - set(DECODING))
        if self.select_by in NEED_SCORES and not self.rescore.n_views:
            raise ConfigError(
                f"option select_by: found {self.select_by} and rescore.n_views 0, expected scores to select by; add "
                "--rescore.n-views 8"
            )
        if self.select_by == "pairwise" and not self.rescore.pairs:
            raise ConfigError(
                "option select_by: found pairwise without rescore.pairs, expected comparisons to select by; add "
                "--rescore.pairs 4"
            )
        if self.select_by == "verify" and not self.rescore.verify:
            raise ConfigError(
                "option select_by: found verify without rescore.verify, expected verdicts to select by; add "
                "--rescore.verify"
            )


def _check_micro_steps(config: SolveConfig) -> None:
    """Raise ConfigError or EngineError where a model with micro steps is asked for more than its engine can do, or one
    without them for that engine.
    """
    if not has_micro_steps(config.model):
        if config.engine == "micro":
            raise ConfigError(
                f"option engine: found micro for {config.model}, which has no micro steps, expected a model that "
                "`arc-kaggle train --micro.segments` has made; choose --engine auto"
            )
        return
    if config.tune.weights != "none" or config.adapter or config.four_bit or config.joint_minutes:
        raise ConfigError(
            f"option model: found a micro-step model with tune.weights {config.tune.weights!r}, expected --recipe "
            "none, no adapter, no joint stage, no 4 bits; or take its base by `arc-kaggle convert-weights`"
        )
    if config.engine == "auto":  # which becomes micro
        check_engine("micro", wanted_features(config))


def kept_lora(folder: Path, otherwise: LoraConfig) -> LoraConfig:
    """Rank, scale and modules of the adapters that a run has kept; `otherwise` where it tuned all weights.

    Raises ConfigError for a folder that holds nothing of that kind.
    """
    if not any(folder.glob(f"*/{TASK_FILE}")):
        raise ConfigError(f"option adapters: found no tuned weights in {folder}, expected what --keep-adapters left")
    found = next(folder.glob(f"*/{ADAPTER_FILE}"), None)
    return lora_of(found.parent) if found else otherwise


def wanted_features(config: SolveConfig) -> Iterator[Feature]:
    """What a run asks of its engine, beside one greedy answer to a prompt."""
    decoding, weights = config.generate.decoding, config.tune.weights
    features: Mapping[Feature, object] = {
        "sampling": decoding.temperature,
        "beams": decoding.beams > 1,
        "search": config.generate.p_min,
        "scores": config.rescore.n_views,
        "lora": weights == "lora",
        "all weights": weights == "all",
        "4 bits": config.four_bit,
        "cut vocabulary": config.cut_vocabulary,
        "grid positions": has_grid_positions(config.model),
        "micro steps": has_micro_steps(config.model),
    }
    return (feature for feature, is_wanted in features.items() if is_wanted)
