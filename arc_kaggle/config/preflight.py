"""The options of `arc-kaggle preflight`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from arc_kaggle.config.engines import MEMORY_HEADROOM
from arc_kaggle.config.micro import check_plain
from arc_kaggle.config.model import ModelOptions, options_of
from arc_kaggle.config.options import Count, Minutes, Positive, Range, check_ranges
from arc_kaggle.config.solve import SolveConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightConfig(ModelOptions):
    """Check that a model, its prompt format and this machine go together: one line a check, exit code 2 where one
    fails."""

    prompt: Annotated[str, tyro.conf.arg(aliases=("--preset",))] = "auto"
    """The prompt format to check: plain, arc24, arc24-no-system, architects, nvarc, chat, or auto, as for `solve`."""
    tasks: str = "arc1:training"
    """Tasks with known answers that the model is asked, as for `solve`; those with the shortest prompts are taken."""
    n_tasks: Count = 10
    """How many of these tasks are asked."""
    min_ended: Annotated[float, Range(0, 1, is_open=True)] = 0.5
    """Share of the answers, over 0 and up to 1, that must end by themselves within the limit of tokens."""
    sized_by: str = "arc2:evaluation"
    """Tasks whose lengths in tokens stand for those of the run that time is projected for."""
    n_run_tasks: Count = 240
    """Number of tasks of that run."""
    time_limit_minutes: Minutes = 700.0
    """Minutes that the run may take."""
    time_bound_minutes: Minutes = 30.0
    """Minutes after which preflight itself makes no further check; it says which ones it left out."""
    memory_headroom: Positive = MEMORY_HEADROOM
    """Projected memory times this must be available: buffers and logits are not in the projection."""

    def __post_init__(self) -> None:
        ModelOptions.__post_init__(self)
        check_ranges(self)
        check_plain(self.model)

    @property
    def run(self) -> SolveConfig:
        """The run that is to be made. Raises ConfigError, EngineError where `solve` would refuse it."""
        return SolveConfig("", Path(), **options_of(self, ModelOptions))
