"""The value of a stage: the probability that a task is solved, before it and after it.

A task has a chance p that one view of it is answered right under tuned weights; k views find the answer with chance
1 - (1 - p)^k. Before anything has run, p is spread over the tasks such that the share of tasks found after 1, 2, 4, 8
and 16 views is the published gain curve of greedy answers (8B model, 100 ARC tasks): 43, 53, 63, 68, 71%. What views
agree on then tells about the p of the task at hand.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, isnan

N_CHANCES = 16
SOLVABLE = 0.76
"""Share of tasks that any number of views solves; with the Beta distribution below it fits the curve within 1 point."""
ALPHA, BETA = 0.87, 0.69
"""The parameters of the Beta distribution of p over the tasks that can be solved."""
UNTUNED = 7.7 / 12.5
"""The chance of a view without fine-tuning, as a share of p: what arc24 measured, 7.7% against 12.5%."""
UNSCORED = 66 / 72.5
"""Share of the found answers that are among the two attempts by votes, of those that are by scores (PoE paper)."""
TYPICAL_MARGIN = 0.5
"""At this margin scoring is worth the published mean; nothing at 1, twice of it at 0. An assumption."""

CHANCES = (0.0, *((i + 0.5) / N_CHANCES for i in range(N_CHANCES)))

Belief = tuple[float, ...]
"""The probability of each of CHANCES as the p of a task; they add up to 1."""


def _prior() -> Belief:
    density = [p ** (ALPHA - 1) * (1 - p) ** (BETA - 1) for p in CHANCES[1:]]
    return (1 - SOLVABLE, *(SOLVABLE * each / sum(density) for each in density))


PRIOR = _prior()


@lru_cache(maxsize=2**16)
def found(belief: Belief, n_views: int, skill: float = 1.0) -> float:
    """The chance that at least one of `n_views` views gives the right answer; `skill` is UNTUNED or 1."""
    return sum(weight * (1 - (1 - skill * p) ** n_views) for weight, p in zip(belief, CHANCES, strict=True))


def observe(belief: Belief, n_views: int, agreement: float, margin: float, skill: float = 1.0) -> Belief:
    """The belief after `n_views` views whose leading candidate has a share of `agreement`, ahead by `margin`.

    Of n views j are right; the leading wrong answer has any count from 1 to n - j with the same chance. The leader is
    the right answer or that one; the right answer is never between the leader and the second.
    """
    if isnan(agreement) or not n_views:
        return belief
    lead = round(agreement * n_views)
    second = None if isnan(margin) else max(0, lead - round(margin * n_views))
    worlds = _worlds(n_views, lead, second)
    seen = [w * _chance(worlds, n_views, skill * p) for w, p in zip(belief, CHANCES, strict=True)]
    total = sum(seen)
    return tuple(each / total for each in seen) if total > 0 else belief


def _worlds(n: int, lead: int, second: int | None) -> list[tuple[int, float]]:
    """(j right views, chance of what was seen given j) for every j that may lie behind it."""
    if not lead:
        return [(0, 1.0)]  # no view gave a grid at all
    rest = n - lead
    counts = min(lead, rest) if second is None else 1  # of the leading wrong answer, where the right one leads
    right_leads = (lead, counts / rest if rest else 1.0)
    most = lead - 1 if second is None else min(second, lead - 1)
    return [right_leads, *((j, 1 / (n - j)) for j in range(min(most, rest) + 1))]


def _chance(worlds: list[tuple[int, float]], n: int, p: float) -> float:
    return sum(share * comb(n, j) * p**j * (1 - p) ** (n - j) for j, share in worlds)


def scoring_gain(chance: float, margin: float) -> float:
    """The gain of scoring for a task whose answer is found with probability `chance`: larger for a closer vote."""
    openness = 1.0 if isnan(margin) else (1 - margin) / (1 - TYPICAL_MARGIN)
    return chance * (1 - UNSCORED) * openness
