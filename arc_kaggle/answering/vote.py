"""Candidates are ranked by the evidence for them, in one of the published ways; the best two become the attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.answering.candidates import Candidate, CandidateScore, Prediction, group_candidates
from arc_kaggle.config.answer import Selection
from arc_kaggle.tasks.grid import Grid, as_grid, grid_key, same_grid

BASELINE_NATS = 3.0
"""Of `probmul`: evidence less likely than exp(-3) counts against a candidate."""


def rank_candidates(
    predictions: Iterable[Prediction], scores: Iterable[CandidateScore] = (), by: Selection = "votes"
) -> list[Candidate]:
    """The distinct grids of one query, best first. What a method leaves equal is in the order of `votes`, and what
    that leaves equal in the order of the first view, so that the order is one and the same every time.
    """
    candidates = group_candidates(sorted(predictions, key=lambda each: (each.view, each.rank)), scores)
    ranked = sorted(candidates, key=lambda c: (-c.votes, -c.mean_log_prob, c.predictions[0].view))
    if by == "cells":
        return _with_common_cells(ranked)
    if by == "pairwise":
        return _by_comparisons(ranked)
    worth = _WORTHS.get(by)
    return sorted(ranked, key=lambda c: -worth(c)) if worth else ranked


def _probability(candidate: Candidate) -> float:
    return sum(prediction.probability for prediction in candidate.predictions)


def _nvarc(candidate: Candidate) -> float:
    return candidate.votes - candidate.mean_nll


def _probmul(candidate: Candidate) -> float:
    if not candidate.nlls:
        return -inf
    found = sum(BASELINE_NATS + prediction.log_prob for prediction in candidate.predictions)
    return found + sum(BASELINE_NATS - nll for nll in candidate.nlls.values())


_WORTHS: dict[str, Callable[[Candidate], float]] = {
    "probability": _probability,
    "poe": lambda candidate: -candidate.mean_nll,
    "nvarc": _nvarc,
    "probmul": _probmul,
    "verify": lambda candidate: candidate.mean_verdict,
}


def _by_comparisons(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Compared candidates by their Bradley-Terry strengths, then the others as they were."""
    return [ranked[i] for i in np.argsort(-strengths_of(ranked), kind="stable")]


def strengths_of(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """The Bradley-Terry log-strength (n,) of each of a query's candidates; minus infinity for one never compared."""
    places = {grid_key(candidate.grid): i for i, candidate in enumerate(candidates)}
    wins = np.zeros((len(candidates), len(candidates)))  # (winner, loser)
    for i, candidate in enumerate(candidates):
        for other, margin in candidate.duels:
            if (j := places.get(grid_key(other))) is not None:
                share = 1 / (1 + np.exp(-np.clip(margin, -MOST_NATS, MOST_NATS)))
                wins[i, j] += share
                wins[j, i] += 1 - share
    compared = (wins + wins.T).any(axis=1)
    return np.where(compared, bradley_terry(wins), -inf) if compared.any() else np.full(len(candidates), -inf)


MOST_NATS = 30.0
"""A greater margin counts as certain."""


def bradley_terry(wins: NDArray[np.float64], n_steps: int = 200) -> NDArray[np.float64]:
    """Log-strengths (n,) by which i beats j with chance s_i / (s_i + s_j) (Bradley and Terry 1952), mean 0.

    `wins` (n, n) holds how often i beat j, in parts of a win too. Half a win each way is added to every pair that met,
    so that who always won is no infinity. By minorization and maximization (Hunter 2004).
    """
    met = (wins + wins.T) > 0
    games = wins + wins.T + met
    won = (wins + 0.5 * met).sum(axis=1)
    strengths = np.ones(len(wins))
    for _ in range(n_steps):
        shares = (games / (strengths[:, None] + strengths[None, :])).sum(axis=1)
        strengths = np.where(shares > 0, won / np.maximum(shares, 1e-300), 1.0)
        strengths /= np.exp(np.log(strengths).mean()) if len(strengths) else 1.0
    return np.log(strengths)


def _with_common_cells(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The grid of common cells, then the others as they were."""
    if not ranked:
        return []
    grid = common_cells(ranked)
    made = next((candidate for candidate in ranked if same_grid(candidate.grid, grid)), Candidate(grid, ()))
    return [made, *(candidate for candidate in ranked if candidate is not made)]


def common_cells(ranked: Sequence[Candidate]) -> Grid:
    """Each cell's commonest colour over all votes for grids of the commonest shape; of equals the better ranked's."""
    shapes: Counter[tuple[int, ...]] = Counter()
    for candidate in ranked:
        shapes[candidate.grid.shape] += candidate.votes
    shape = shapes.most_common(1)[0][0]
    alike = [candidate for candidate in ranked if candidate.grid.shape == shape]
    votes = np.zeros((10, *shape))
    for place, candidate in enumerate(alike):
        worth = candidate.votes - place / (len(alike) + 1)  # under one vote: it decides between equals alone
        np.put_along_axis(votes, candidate.grid[None], np.take_along_axis(votes, candidate.grid[None], 0) + worth, 0)
    return as_grid(votes.argmax(axis=0))
