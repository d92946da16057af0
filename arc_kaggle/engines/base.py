"""The seam between the method and whatever generates: `Engine` and the `Completion` it returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.budget import Deadline
from arc_kaggle.errors import EngineError
from arc_kaggle.tokens import TokenIds


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


class Engine(Protocol):
    """Greedy generation over any number of prompts of any lengths."""

    def generate(
        self, prompts: Sequence[TokenIds], max_new_tokens: Sequence[int], deadline: Deadline
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (position of the prompt, its completion) for every prompt once, each as soon as it is known.

        The completion of prompt i has at most `max_new_tokens[i]` ids, the end token among them. At the deadline what
        is there is yielded as it stands, not `ended`. Raises EngineError for an empty prompt.
        """
        ...


def check_prompts(prompts: Sequence[TokenIds]) -> None:
    """Raise EngineError for a prompt without tokens: there is nothing that could be followed."""
    for position, prompt in enumerate(prompts):
        if not len(prompt):
            raise EngineError(f"prompt {position} of {len(prompts)}: found no tokens, expected at least one")
