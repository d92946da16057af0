"""Exact statistics of shares and of pairs: did one way solve more of the same things than another?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import comb, exp, inf, lgamma, log, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95
LEAST_TESTED = 10
"""Fewer things than this are too few for a test: neither a p value nor odds are told for them."""
Solved = Mapping[Hashable, bool]
"""What was asked, by any key, and whether it was solved."""


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% interval of a share, 0..1, of which `k` in `n` were seen (Wilson 1927); 0..1 where nothing was seen."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, spread = k / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # the share is in it when rounded


@dataclass(frozen=True, slots=True)
class Paired:
    """Two ways to solve the same `n` things. Only those on which the two differ tell which one is better."""

    n: int
    both: int
    only_first: int
    only_second: int

    @property
    def uplift(self) -> float:
        """By how much the first way's share of solved things exceeds the second's, -1..1."""
        return (self.only_first - self.only_second) / self.n if self.n else 0.0

    @property
    def is_tested(self) -> bool:
        """Whether there are enough things for a p value and odds to be told."""
        return self.n >= LEAST_TESTED

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar test: the chance of a split of the differing things at least as uneven as this one
        where each falls to either way like a fair coin; 1 where there are none.
        """
        differing, fewer = self.only_first + self.only_second, min(self.only_first, self.only_second)
        as_uneven = 2 * sum(comb(differing, i) for i in range(fewer + 1))
        return min(1.0, float(as_uneven / 2**differing))

    @property
    def odds(self) -> tuple[float, float]:
        """95% interval of the odds that a differing thing falls to the first way, 0..infinity; 1 is no difference.

        Conditional on how many differ: the exact interval of a binomial share (Clopper and Pearson 1934), as odds.
        It leaves out 1 exactly where `p_value` is under 0.05.
        """
        low = _lower_bound(self.only_first, self.only_first + self.only_second)
        other = _lower_bound(self.only_second, self.only_first + self.only_second)
        return low / (1 - low), (1 - other) / other if other else inf

    def to_json(self) -> dict[str, Any]:
        """Counts and what follows from them. An odds bound that is infinite is null, and so is a test of too few."""
        low, high = self.odds
        counts = {name: getattr(self, name) for name in ("n", "both", "only_first", "only_second")}
        odds = [low, None if high == inf else high]
        tests = {"p_value": self.p_value, "odds_95": odds} if self.is_tested else {"p_value": None, "odds_95": None}
        return {**counts, "uplift": self.uplift, **tests}


def paired(first: Solved, second: Solved) -> Paired:
    """Compare two ways on the things that both were asked."""
    common = first.keys() & second.keys()
    both = sum(first[key] and second[key] for key in common)
    only_first = sum(first[key] and not second[key] for key in common)
    only_second = sum(second[key] and not first[key] for key in common)
    return Paired(len(common), both, only_first, only_second)


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """By how much a measure of the same `n` things is higher one way than another, with a 95% interval."""

    n: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f}..{self.high:+.3f})"


def mean_difference(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float], rng: np.random.Generator, n_draws: int = 10_000
) -> MeanDifference:
    """First less second over the things that both were measured on; the interval is the paired bootstrap's.

    Raises ValueError where there are none.
    """
    common = sorted(first.keys() & second.keys(), key=str)
    if not common:
        raise ValueError("mean_difference: found nothing that both ways were measured on, expected one or more")
    differences = np.array([first[key] - second[key] for key in common])
    means = rng.choice(differences, size=(n_draws, len(differences))).mean(axis=1)  # (draws,)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return MeanDifference(len(common), float(differences.mean()), float(low), float(high))


def _lower_bound(k: int, n: int) -> float:
    """The share under which `k` or more of `n` have a chance of 2.5%; 0 for `k` of 0. By bisection."""
    low, high = 0.0, 1.0 if k else 0.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _upper_tail(k, n, middle) < (1 - CONFIDENCE) / 2 else (low, middle)
    return (low + high) / 2


def _upper_tail(k: int, n: int, share: float) -> float:
    """Chance of `k` or more successes among `n`, each with chance `share`, 0 < share < 1."""
    logs = (lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(k, n + 1))
    terms = (ways + i * log(share) + (n - i) * log(1 - share) for i, ways in enumerate(logs, start=k))
    return sum(map(exp, terms))
