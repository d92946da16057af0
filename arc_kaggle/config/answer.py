"""Options of answering: views, decoding, search, scoring and the choice of attempts. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from arc_kaggle.config.tune import Drop
from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Decoding:
    """How `generate` chooses tokens: the likeliest, samples, or beams. Log-probabilities are the model's own."""

    temperature: float = 0.0
    """Tokens are sampled from softmax(logits / temperature); 0 takes the likeliest."""
    best_of: int = 1
    """Samples a prompt, of which the likeliest that ended is the answer."""
    beams: int = 1
    """Likeliest prefixes that are followed together; needs temperature 0."""
    seed: int = 0
    """With the prompt's own ids it makes the noise, which neither drafts nor the other prompts can change."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"option temperature: found {self.temperature}, expected 0 or more")
        for name in ("best_of", "beams"):
            if getattr(self, name) < 1:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected 1 or more")
        if self.best_of > 1 and not self.temperature:
            raise ConfigError(f"option best_of: found {self.best_of} at temperature 0, where all samples are the same")
        if self.beams > 1 and self.temperature:
            raise ConfigError(
                f"option beams: found {self.beams} at temperature {self.temperature}, expected one of both"
            )


GREEDY = Decoding()


@dataclass(frozen=True, slots=True)
class Search:
    """Look for every completion whose probability is over `p_min`, within limits."""

    p_min: float = 0.1
    """Least probability of a completion, its end included; over 0 and under 1."""
    max_nodes: int = 100_000
    """Most prefixes of a prompt's completions whose followers are looked at."""
    max_seconds: float = math.inf
    """Most seconds of one batch of prompts."""

    def __post_init__(self) -> None:
        if not 0 < self.p_min < 1:
            raise ConfigError(f"option p_min: found {self.p_min}, expected a probability over 0 and under 1")
        for name in ("max_nodes", "max_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected more than 0")

    @property
    def max_nll(self) -> float:
        """In nats."""
        return -math.log(self.p_min)


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Batched inference over many views of every test input."""

    n_views: int = 16
    """Views of a task; every test input is answered under each."""
    n_pilots: int = 0
    """Views that are answered first, so that the others can take what they gave as drafts, as later ones of the task do
    then too; 0 for all at once. It pays where a step costs much and views agree; for the model in the box on a CPU it
    does not."""
    views_a_wave: int = 0
    """Views that are answered together after the pilots; all of them where 0."""
    stop_lead: int = 0
    """A query is answered under no further view once its leading candidate is so many views ahead of the next and the
    next wave begins; never where 0."""
    p_min: float = 0.0
    """Look for every completion with more than this probability; the decoding's one completion a view where 0."""
    max_nodes: int = 100_000
    """Most prefixes that a search looks at under a view."""
    decoding: Decoding = field(default_factory=Decoding)
    keep_background: float = 0.9
    """Chance that colour 0 stays itself in a view, 0..1."""
    max_new_tokens: int = 931
    """Most tokens of an answer; 931 hold a 30 x 30 grid and its end."""
    answer_headroom: float = 2.0
    """Most tokens of an answer as a multiple of the task's longest grid, so that a run-away answer is cut early."""
    max_prompt_tokens: int = 8192
    """Longest prompt in tokens; of a longer task train pairs are left out."""
    drop: Drop = "last"
    """Which train pair is left out first: the last, the one with most tokens, or the one whose input is least like the
    test input."""
    fallback_encoder: str = ""
    """A more compact encoder that the model can read too, for prompts of which not even one train pair fits; none
    where empty."""
    tokens_per_batch: int = 65536
    """Most key-value slots in a batch, prompts and answers together."""
    max_seconds: float = 600.0
    """Most seconds of inference a task."""

    def __post_init__(self) -> None:
        for name in ("n_pilots", "views_a_wave", "stop_lead"):
            if getattr(self, name) < 0:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected 0 or more")
        if self.p_min:
            if self.decoding != Decoding():
                raise ConfigError(f"option p_min: found {self.p_min} and {self.decoding}, expected one of both")
            Search(self.p_min, self.max_nodes)  # checks them


@dataclass(frozen=True, slots=True)
class RescoreConfig:
    """How candidates are scored after all views have answered (PoE paper, ARChitects 2025, NVARC 2025)."""

    n_views: int = 0
    """Views under which every candidate is scored; nothing is scored where 0."""
    max_candidates: int = 8
    """Most candidates of a query that are scored, those of most votes first."""
    verify: bool = False
    """Ask the model under each of those views whether a candidate is right; it has to have been trained to say so, at
    test time with --tune.verify-share."""
    max_seconds: float = 300.0
    """Most seconds of scoring a task."""

    def __post_init__(self) -> None:
        for name, least in (("n_views", 0), ("max_candidates", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"option rescore.{name}: found {getattr(self, name)}, expected {least} or more")
        if self.verify and not self.n_views:
            raise ConfigError(
                "option rescore.verify: found it with rescore.n_views 0, expected views to ask under; add "
                "--rescore.n-views 8"
            )


Selection = Literal["votes", "cells", "probability", "poe", "nvarc", "probmul", "verify"]
"""votes: views that produced it, ties by mean log-probability per token (arc24).
cells: first the grid of each cell's commonest colour among the answers of the commonest shape, then as votes.
probability: sum of the completions' probabilities.
poe: product of experts, the sum of its NLL over the same views for every candidate (PoE paper).
nvarc: views that produced it less the mean NLL over those views (NVARC 2025).
probmul: sum over its predictions and over the scored views of (3 nats - NLL) (ARChitects).
verify: the model's own verdict, mean over the scored views of log P(right) - log P(wrong) (omni-arc's verify output).
The last four want scores; a candidate without any comes after those with some."""

NEED_SCORES: tuple[Selection, ...] = ("poe", "nvarc", "probmul", "verify")
