"""The `Engine` protocol: prompts as token ids become completions, searches and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.errors import EngineError
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

Drafts = Sequence[Sequence[TokenIds]]
"""For every prompt some guesses of its completion, the best one first. They save time and never change a result."""

Nlls = NDArray[np.float64]
"""NLL in nats of each candidate under one prompt, (candidates,); NaN where the deadline came first."""


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """Token ids (T,) that followed a prompt and their log-probabilities in nats, (T,) float32.

    `ended` says that the last id is the end token; without it the completion was cut off.
    """

    ids: TokenIds
    log_probs: NDArray[np.float32]
    ended: bool

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole completion in nats."""
        return float(self.log_probs.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found under one prompt."""

    completions: tuple[Completion, ...]
    """All that ended, the likeliest first."""
    nodes: int
    """Prefixes, the empty one among them, whose followers were looked at."""
    cut: int
    """Prefixes over the threshold that had all the tokens they may have and no end."""
    stopped: str = ""
    """`deadline` or `nodes` where the search was stopped before it had seen everything."""


class Engine(Protocol):
    """Completions and likelihoods for any number of prompts of any lengths, whatever else is asked beside them.

    Results are yielded as (position of the prompt, result), every prompt once, each as soon as it is known. Raises
    EngineError for an empty prompt, and for what this engine cannot do. `adapters` names each prompt's adapter.
    """

    def generate(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        *,
        drafts: Drafts | None = None,
        decoding: Decoding = GREEDY,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """The completion of prompt i has at most `max_new_tokens[i]` ids, the end token among them.

        At the deadline what is there is yielded as it stands, not `ended`.
        """
        ...

    def search(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        search: Search,
        *,
        drafts: Drafts | None = None,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Found]]:
        """Every completion with P > `p_min`. At the deadline what was found is yielded, and says so."""
        ...

    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        """NLL of each candidate completion of each prompt, its end among its ids where it should count."""
        ...


def check_prompts(prompts: Sequence[TokenIds]) -> None:
    """Raise EngineError for a prompt without tokens: there is nothing that could be followed."""
    for position, prompt in enumerate(prompts):
        if not len(prompt):
            raise EngineError(f"prompt {position} of {len(prompts)}: found no tokens, expected at least one")
