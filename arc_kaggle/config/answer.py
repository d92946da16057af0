"""The options of answering: views, decoding, search, scoring of candidates, and the choice of the two attempts."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass, field
from typing import Annotated, Literal

from arc_kaggle.config.options import (
    MANY,
    MOST_VIEWS,
    Count,
    Drop,
    NotNegative,
    Positive,
    Range,
    Seed,
    Share,
    Views,
    check_ranges,
)
from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Decoding:
    """Greedy decoding, sampling or beam search. Log-probabilities are always those of the model at temperature 1."""

    temperature: NotNegative = 0.0
    """Tokens are sampled from softmax(logits / temperature); 0 is greedy decoding."""
    best_of: Count = 1
    """Samples of every prompt; the likeliest of those that ended is the answer."""
    beams: Count = 1
    """Width of the beam search, which needs temperature 0."""
    seed: Seed = 0
    """Seed of the sampling noise. A prompt's noise depends on this and on its own token ids alone."""

    def __post_init__(self) -> None:
        check_ranges(self, "generate.decoding")
        if self.best_of > 1 and not self.temperature:
            raise ConfigError(
                f"option generate.decoding.best_of: found {self.best_of} at temperature 0, where all samples are the "
                "same; expected 1, or a temperature over 0"
            )
        if self.beams > 1 and self.temperature:
            raise ConfigError(
                f"option generate.decoding.beams: found {self.beams} at temperature {self.temperature}, expected 1 "
                "beam or temperature 0"
            )


GREEDY = Decoding()


@dataclass(frozen=True, slots=True)
class Search:
    """Look for every completion whose probability is over `p_min`, within limits."""

    p_min: float = 0.1
    """Least probability of a completion, its end included; over 0 and under 1."""
    max_nodes: int = 100_000
    """Most prefixes of one prompt that the search expands."""
    max_seconds: float = math.inf
    """Most seconds of one batch of prompts."""

    def __post_init__(self) -> None:
        if not 0 < self.p_min < 1:
            raise ConfigError(f"option generate.p_min: found {self.p_min}, expected a probability over 0 and under 1")
        for name in ("max_nodes", "max_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"option generate.{name}: found {getattr(self, name)}, expected more than 0")

    @property
    def max_nll(self) -> float:
        """In nats."""
        return -math.log(self.p_min)


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Batched inference over many views of every test input."""

    n_views: Annotated[Views, Range(1, MOST_VIEWS)] = 16
    """Views of a task; every test input is answered under each of them."""
    n_pilots: Views = 0
    """Speculative decoding across views: so many views are answered first, and their answers, mapped to the other
    views, are the draft tokens there. 0 answers all views at once, without drafts. Drafts pay where a decode step is
    slow and views agree; for the model that ships, on a CPU, they do not."""
    views_a_wave: Views = 0
    """Views that are answered together after the pilots; 0 means all of them."""
    stop_lead: Views = 0
    """Early stopping: before each wave, a test input whose leading candidate is this many views ahead of the next is
    asked no further. 0 means that all views are asked."""
    p_min: Share = 0.0
    """Search for every completion that is likelier than this, in place of one completion a view; 0 means no search."""
    max_nodes: Count = 100_000
    """Most prefixes that the search expands under one view."""
    decoding: Decoding = field(default_factory=Decoding)
    keep_background: Share = 0.9
    """Probability, 0..1, that a view leaves colour 0 as it is; else colour 0 is permuted with the others."""
    max_new_tokens: Count = 931
    """Most tokens of an answer; 931 hold a 30 x 30 grid and its end."""
    answer_headroom: Positive = 2.0
    """Most tokens of an answer, as a multiple of the task's longest grid, so that a runaway answer is cut early."""
    max_prompt_tokens: Count = 8192
    """Longest prompt in tokens. Where a task's prompt is longer, train pairs are left out."""
    drop: Drop = "last"
    """Which train pair is left out first: the last, the largest in tokens, or the one whose input is least similar to
    the test input."""
    fallback_encoder: str = ""
    """A more compact encoder that the model can read too, for prompts in which not even one train pair fits; none where
    it is empty."""
    tokens_per_batch: Count = 65536
    """Most KV cache slots of a batch, for prompts and answers together."""
    max_seconds: Positive = 600.0
    """Most seconds of inference on one task."""

    def __post_init__(self) -> None:
        check_ranges(self, "generate")
        if self.p_min:
            if self.decoding != Decoding():
                raise ConfigError(
                    f"option generate.p_min: found {self.p_min} together with {self.decoding}, expected greedy "
                    "decoding; leave out --generate.decoding"
                )
            Search(self.p_min, self.max_nodes)  # checks them


@dataclass(frozen=True, slots=True)
class RescoreConfig:
    """How candidates are scored by the model after all views have been answered (PoE paper, ARChitects 2025, NVARC
    2025)."""

    n_views: Views = 0
    """Views under which the likelihood of every candidate is measured; 0 means that nothing is scored."""
    max_candidates: Annotated[int, Range(2, MANY)] = 8
    """Most candidates of a test input that are scored, those with the most votes first."""
    verify: bool = False
    """Ask the model under each of those views whether a candidate is right, too. The model must have been trained to
    say so; at test time --tune.verify-share trains it."""
    pairs: Annotated[int, Range(0, 64)] = 0
    """Candidates, those with the most votes first, of which the model is asked under each of those views, two by two,
    which one is right; 0 means that it is not asked. At test time --tune.pair-share trains it."""
    max_seconds: Positive = 300.0
    """Most seconds of scoring one task."""

    def __post_init__(self) -> None:
        check_ranges(self, "rescore")
        for name in ("verify", "pairs"):
            if getattr(self, name) and not self.n_views:
                raise ConfigError(
                    f"option rescore.{name}: found it with rescore.n_views 0, expected views to ask under; add "
                    "--rescore.n-views 8"
                )
        if self.pairs == 1:
            raise ConfigError("option rescore.pairs: found 1, expected 0, or 2 candidates or more to compare")


Selection = Literal["votes", "cells", "probability", "poe", "nvarc", "probmul", "verify", "pairwise"]
"""votes: views that produced it, ties by mean log-probability per token (arc24).
cells: first the grid of each cell's commonest colour among the answers of the commonest shape, then as votes.
probability: sum of the completions' probabilities.
poe: product of experts, the sum of its NLL over the same views for every candidate (PoE paper).
nvarc: views that produced it less the mean NLL over those views (NVARC 2025).
probmul: sum over its predictions and over the scored views of (3 nats - NLL) (ARChitects).
verify: the model's own verdict, mean over the scored views of log P(right) - log P(wrong) (omni-arc's verify output).
pairwise: the model's own comparisons of two candidates, ranked by Bradley-Terry; those not compared come after.
The last five want scores; a candidate without any comes after those with some."""

NEED_SCORES: tuple[Selection, ...] = ("poe", "nvarc", "probmul", "verify", "pairwise")


def ways_to_select(n_views: int, verify: bool, pairs: int) -> tuple[Selection, ...]:
    """Those that candidates have evidence for when they are scored so, by the options of `rescore`."""
    lacking = {"verify": not verify, "pairwise": not pairs}
    ways: tuple[Selection, ...] = typing.get_args(Selection)
    return tuple(way for way in ways if way not in NEED_SCORES or (n_views and not lacking.get(way)))
