"""Levels of gentleness: what a task asks for less of each time that memory, or its worker, was lost over it.

Level 0 is what is configured. Fine-tuning, prompts and views all read this one table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.tune import TuneConfig


@dataclass(frozen=True, slots=True)
class Level:
    """What one level changes against the configured values."""

    adds: str
    """What it adds to the level before it, in the words of reports."""
    checkpointing: bool = False
    """Whether fine-tuning computes activations again in place of keeping them."""
    share: float = 1.0
    """Share of the configured tokens of an example, a step and a prompt, and of the views of a job."""
    tunes: bool = True
    """Whether the task is fine-tuned at all; else the base model answers it."""


LEVELS = (
    Level("as configured"),
    Level("gradient checkpointing", checkpointing=True),
    Level("examples of half the length", checkpointing=True, share=0.5),
    Level("no fine-tuning", checkpointing=True, share=0.5, tunes=False),
)
"""From level 0 on; beyond the last one nothing gets gentler."""
UNTUNED_LEVEL = next(number for number, level in enumerate(LEVELS) if not level.tunes)
"""The first level without fine-tuning."""


def level_at(number: int) -> Level:
    """The level of a number, 0 or more."""
    return LEVELS[min(number, len(LEVELS) - 1)]


def steps_to(number: int) -> str:
    """What a level differs in from level 0, as a list with commas; empty for level 0."""
    return ", ".join(level.adds for level in LEVELS[1 : number + 1])


def gentler_tuning(config: TuneConfig, number: int) -> TuneConfig:
    """The fine-tuning of a level. A share of an example's length is a share of a step's tokens, too."""
    level = level_at(number)
    if not level.tunes:
        return replace(config, weights="none")
    a_step = int(level.share * (config.tokens_per_step or 0)) or None
    most, checkpointing = max(1, int(level.share * config.max_tokens)), config.checkpointing or level.checkpointing
    return replace(config, max_tokens=most, tokens_per_step=a_step, checkpointing=checkpointing)


def gentler_prompts(config: GenerateConfig, number: int) -> GenerateConfig:
    """Options for the answers of a task at a level."""
    return replace(config, max_prompt_tokens=max(1, int(level_at(number).share * config.max_prompt_tokens)))


def gentler_views(views: tuple[int, int], number: int) -> range:
    """The views that a job computes at a level: the first ones of those it was to compute, one at least."""
    first, stop = views
    return range(first, first + ceil(level_at(number).share * (stop - first)))
