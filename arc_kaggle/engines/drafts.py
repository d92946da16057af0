"""Drafts for speculative decoding: guessed tokens with the chance of each, so that as many are fed as pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.text.tokens import TokenIds

LEAST_MATCH, MOST_MATCH = 4, 24
"""Tokens that must agree before what followed a place of the text is copied, and that are compared at most."""
COPY_CHANCE = 0.6
"""Chance that a copied token is right; about that of the box model's answers to small evaluation tasks."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Guessed ids (T,) and the log of the chance, (T,) float64, that each is right if those before it are."""

    ids: TokenIds
    log_chances: NDArray[np.float64]

    @classmethod
    def of(cls, ids: TokenIds, chance: float = 1.0) -> Draft:
        return cls(ids, np.full(len(ids), np.log(chance)))

    def __len__(self) -> int:
        return len(self.ids)

    def after(self, n_tokens: int) -> Draft:
        """The draft without its first tokens."""
        return Draft(self.ids[n_tokens:], self.log_chances[n_tokens:])

    def then(self, other: Draft) -> Draft:
        return Draft(np.concatenate([self.ids, other.ids]), np.concatenate([self.log_chances, other.log_chances]))

    def until(self, end_id: int, limit: int) -> Draft:
        """The draft up to its end token, at most `limit` tokens: the end itself is never fed."""
        stop = max(limit, 0)
        ends = np.flatnonzero(self.ids[:stop] == end_id)
        stop = int(ends[0]) if len(ends) else stop
        return Draft(self.ids[:stop], self.log_chances[:stop])


NO_DRAFT = Draft.of(np.array([], dtype=np.int64))


@dataclass(slots=True, eq=False)
class Guesses:
    """The sources of one row's drafts beside the model's own predictions, and how many draft tokens were right."""

    given: Sequence[TokenIds]
    """The caller's guesses of the whole completion, the best first."""
    prompt: TokenIds
    n_right: int = 10
    n_wrong: int = 1
    """Drafted tokens; some credit to begin with."""

    @property
    def trust(self) -> float:
        """Log of the share of right ones: no drafted token counts as surer than that."""
        return float(np.log(self.n_right / (self.n_right + self.n_wrong)))

    def record(self, n_right: int, wrong: bool) -> None:
        self.n_right += n_right
        self.n_wrong += wrong

    def draft(self, completion: TokenIds, predicted: Draft) -> Draft:
        """For a completion so far (T,): the rest of a given guess that begins so, else `predicted`, else a copy.

        To begin with that copies what followed the prompt's last token before: where the model answers as it was asked,
        an earlier answer. Even where it is wrong, the model then says what it thinks of each of its places.
        """
        for guess in self.given:
            if len(guess) > len(completion) and np.array_equal(guess[: len(completion)], completion):
                return Draft.of(guess[len(completion) :])
        if len(predicted):
            return predicted
        if not len(completion):
            return Draft.of(continuation(self.prompt, least=1))
        return Draft.of(continuation(np.concatenate([self.prompt, completion])), COPY_CHANCE)


def continuation(text: TokenIds, least: int = LEAST_MATCH) -> TokenIds:
    """What followed the place in a text (T,) that agrees longest with its end, the latest of equals; else nothing.

    At least `least` tokens must agree.
    """
    places = np.flatnonzero(text[:-1] == text[-1]) + 1  # where what is copied begins
    n_match = 1
    while len(places) and n_match < MOST_MATCH:
        longer = places[places > n_match]
        longer = longer[text[longer - n_match - 1] == text[-n_match - 1]]
        if not len(longer):
            break
        places, n_match = longer, n_match + 1
    return text[places[-1] :] if len(places) and n_match >= least else text[:0]
