"""Exact paired statistics, against cases worked out by hand, against enumeration, and on data without a difference."""

from __future__ import annotations

from fractions import Fraction
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_kaggle.evaluation.statistics import Paired, mean_difference, paired, wilson

COUNTS = st.integers(0, 40)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (1, 8, 2 * (1 + 9) / 512),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
        (3, 3, 1.0),  # both halves hold the middle
        (35, 1, 2 * (1 + 36) / 2**36),
    ],
)
def test_p_values_worked_out_by_hand(only_first: int, only_second: int, p_value: float) -> None:
    assert Paired(400, 7, only_first, only_second).p_value == pytest.approx(p_value, rel=1e-12)
    assert Paired(400, 7, only_second, only_first).p_value == pytest.approx(p_value, rel=1e-12)


@given(COUNTS, COUNTS)
def test_the_p_value_is_the_chance_of_all_splits_that_are_no_likelier(first: int, second: int) -> None:
    n = first + second
    chances = [Fraction(comb(n, k), 2**n) for k in range(n + 1)]
    expected = sum(chance for chance in chances if chance <= chances[first])
    assert Paired(n, 0, first, second).p_value == pytest.approx(float(expected), rel=1e-12)


def test_the_p_value_holds_for_thousands() -> None:
    assert Paired(10**4, 0, 500, 500).p_value == 1.0
    assert 0.04 < Paired(10**4, 0, 1050, 950).p_value * 2 < 0.06  # 2.24 standard deviations: 0.025
    assert Paired(10**4, 0, 2000, 0).p_value == 0.0


@pytest.mark.parametrize(
    ("only_first", "only_second", "low", "high"),
    [
        (0, 0, 0.0, inf),
        (5, 0, 1 / (40 ** (1 / 5) - 1), inf),  # a share whose 5th power is 1/40
        (0, 5, 0.0, 40 ** (1 / 5) - 1),
        (8, 2, 0.44390 / (1 - 0.44390), 0.97479 / (1 - 0.97479)),  # Clopper-Pearson of 8 in 10: 44.390% to 97.479%
        (1, 1, 0.012579 / (1 - 0.012579), 0.987421 / (1 - 0.987421)),  # a share x with 1 - (1 - x)^2 = 1/40
    ],
)
def test_odds_worked_out_by_hand(only_first: int, only_second: int, low: float, high: float) -> None:
    found = Paired(50, 3, only_first, only_second).odds
    assert found == (pytest.approx(low, rel=2e-3), pytest.approx(high, rel=2e-3))


@given(COUNTS, COUNTS)
def test_interval_test_and_uplift_agree(first: int, second: int) -> None:
    this, turned = Paired(100, 5, first, second), Paired(100, 5, second, first)
    low, high = this.odds
    assert (low > 1 or high < 1) == (this.p_value < 0.05)
    assert turned.odds == (pytest.approx(1 / high) if high else inf, pytest.approx(1 / low) if low else inf)
    assert this.uplift == -turned.uplift == (first - second) / 100
    if first and second:
        assert low < first / second < high


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("n", [1, 7, 25])
def test_the_interval_holds_the_truth_in_95_of_100_cases(share: float, n: int) -> None:
    """Over every outcome, each with its own chance: an exact interval is never too narrow, on either side."""
    chance = [comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    bounds = [Paired(n, 0, k, n - k).odds for k in range(n + 1)]
    odds = share / (1 - share)
    assert sum(c for c, (low, _) in zip(chance, bounds, strict=True) if low > odds) <= 0.025
    assert sum(c for c, (_, high) in zip(chance, bounds, strict=True) if high < odds) <= 0.025


def test_where_there_is_no_difference_the_test_seldom_says_so() -> None:
    """4000 comparisons of two equally good ways on 400 things: at most 5% fall under 0.05, and not far fewer."""
    rng = np.random.default_rng(0)
    easy = rng.random((4000, 400)) < 0.1  # solved by both
    split = rng.random((4000, 400)) < 0.15  # by one or the other
    side = rng.random((4000, 400)) < 0.5
    first, second = (~easy & split & side).sum(axis=1), (~easy & split & ~side).sum(axis=1)
    p_values = np.array([Paired(400, 0, int(b), int(c)).p_value for b, c in zip(first, second, strict=True)])
    assert 0.02 < (p_values < 0.05).mean() < 0.05
    assert (p_values < 0.5).mean() < 0.5
    better = Paired(400, 0, 40, 20).p_value  # and where there is one, it does
    assert better < 0.02


def test_only_what_both_were_asked_is_compared() -> None:
    first = {"a": True, "b": True, "c": False, "d": False, "e": True}
    second = {"a": True, "b": False, "c": True, "d": False, "f": True}
    found = paired(first, second)
    assert found == Paired(4, 1, 1, 1) and found.uplift == 0
    assert paired({}, second) == Paired(0, 0, 0, 0) and paired({}, second).uplift == 0


def test_json_has_the_counts_and_what_follows_from_them() -> None:
    found = Paired(20, 4, 5, 0).to_json()
    counts = {name: found.pop(name) for name in ("n", "both", "only_first", "only_second")}
    assert counts == {"n": 20, "both": 4, "only_first": 5, "only_second": 0}
    assert found == {"uplift": 0.25, "p_value": 0.0625, "odds_95": [pytest.approx(0.916, abs=1e-3), None]}
    few = Paired(9, 4, 5, 0).to_json()
    assert (few["p_value"], few["odds_95"], few["only_first"]) == (None, None, 5)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (7, 22, 0.1636, 0.5268),  # (0.3182 + 0.0873 -+ 0.2133) / 1.1746
        (0, 10, 0.0, 0.2775),  # z^2 / (n + z^2)
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table 1: 0.2553 to 0.3662
        (15, 148, 0.0624, 0.1605),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_from_the_literature(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_interval_of_a_mean_difference_covers_the_truth_as_often_as_it_says() -> None:
    """Differences of mean 0.2 between things whose own values vary far more: pairs see through that."""
    rng = np.random.default_rng(0)
    covered, excludes_zero = 0, 0
    for _ in range(200):
        own = rng.normal(0, 10, size=40)
        first = {
            i: value + 0.2 + noise for i, (value, noise) in enumerate(zip(own, rng.normal(0, 0.3, 40), strict=True))
        }
        found = mean_difference(first, dict(enumerate(own)), rng, 500)
        covered += found.low <= 0.2 <= found.high
        excludes_zero += found.low > 0
    assert 0.90 <= covered / 200 <= 0.99
    assert excludes_zero / 200 > 0.9


def test_a_mean_difference_is_over_what_both_have() -> None:
    rng = np.random.default_rng(0)
    found = mean_difference({"a": 1.0, "b": 0.5, "c": 9.0}, {"a": 0.5, "b": 0.0, "d": 9.0}, rng)
    assert (found.n, found.mean, found.low, found.high) == (2, 0.5, 0.5, 0.5)
    assert str(found) == "+0.500 (+0.500..+0.500)"
    with pytest.raises(ValueError, match="found nothing"):
        mean_difference({"a": 1.0}, {}, rng)
