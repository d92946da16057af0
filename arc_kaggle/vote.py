"""Candidates are ranked by votes; the best two become the attempts."""

from __future__ import annotations

from collections.abc import Iterable

from arc_kaggle.candidate import Candidate, Prediction, group_candidates


def rank_candidates(predictions: Iterable[Prediction]) -> list[Candidate]:
    """The distinct grids of one query, best first: by number of views that produced them, ties by mean
    log-probability per token (arc24), then by the first view, so that the order is one and the same every time.
    """
    candidates = group_candidates(sorted(predictions, key=lambda prediction: prediction.view))
    return sorted(candidates, key=lambda c: (-c.votes, -c.mean_log_prob, c.predictions[0].view))
