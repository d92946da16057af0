"""The vote: by number of views, then by log-probability per token, then by the first view; nothing else decides."""

from __future__ import annotations

from dataclasses import replace
from math import log
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import prediction

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.answering.vote import bradley_terry, rank_candidates
from arc_kaggle.config.answer import Selection
from arc_kaggle.tasks.grid import as_grid, grid_lists


def ranked(found: list[Prediction]) -> list[list[list[int]]]:
    return [grid_lists(candidate.grid) for candidate in rank_candidates(found)]


def views() -> st.SearchStrategy[list[Prediction]]:
    """One prediction for each of some views, of few grids and few log-probabilities, so that there are ties."""
    answers = st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from([-1.0, -2.0])), max_size=8)
    return answers.map(
        lambda drawn: [
            prediction(None if cell is None else [[cell]], view, log_prob=log_prob)
            for view, (cell, log_prob) in enumerate(drawn)
        ]
    )


def test_more_votes_win_whatever_the_log_probability() -> None:
    found = [prediction([[1]], 0, log_prob=-0.1), prediction([[2]], 1, log_prob=-9.0), prediction([[2]], 2)]
    assert ranked(found) == [[[2]], [[1]]]


def test_a_tie_goes_to_the_higher_mean_log_probability_per_token() -> None:
    long = prediction([[1, 1, 1]], 0, log_prob=-2.0, n_tokens=40)
    short = prediction([[2]], 1, log_prob=-1.0, n_tokens=10)
    assert ranked([short, long]) == [[[1, 1, 1]], [[2]]]


def test_a_full_tie_goes_to_the_first_view() -> None:
    assert ranked([prediction([[1]], 3), prediction([[2]], 1), prediction([[3]], 2)]) == [[[2]], [[3]], [[1]]]


def test_the_first_view_of_a_candidate_is_its_lowest() -> None:
    found = [prediction([[cell]], view) for view, cell in enumerate([1, 2, 2, 1])]
    assert ranked(found) == ranked(found[::-1]) == [[[1]], [[2]]]


def test_views_without_a_grid_have_no_vote() -> None:
    assert ranked([prediction(None, 0), prediction(None, 1), prediction([[4]], 2)]) == [[[4]]]
    assert ranked([prediction(None, 0)]) == ranked([]) == []


@given(views(), st.randoms(use_true_random=False))
def test_the_order_of_the_predictions_does_not_matter(found: list[Prediction], rng: Random) -> None:
    shuffled = found.copy()
    rng.shuffle(shuffled)
    assert ranked(shuffled) == ranked(found)


@given(views())
def test_every_neighbour_is_in_order_and_no_vote_is_lost(found: list[Prediction]) -> None:
    candidates = rank_candidates(found)
    keys = [(-c.votes, -c.mean_log_prob, min(p.view for p in c.predictions)) for c in candidates]
    assert keys == sorted(keys)
    assert sum(c.votes for c in candidates) == sum(p.grid is not None for p in found)


# Other ways to select -------------------------------------------------------------------------------------------------


def scores(**nlls: list[float]) -> list[CandidateScore]:
    """Of candidates [[1]], [[2]], ... named a, b, ...; one NLL a view."""
    return [
        CandidateScore("small", 0, view, as_grid([["_abcdefghi".index(name)]]), nll)
        for name, of_views in nlls.items()
        for view, nll in enumerate(of_views)
    ]


def order(by: Selection, found: list[Prediction], given: list[CandidateScore] = []) -> str:  # noqa: B006
    ranked = rank_candidates(found, given, by)
    return "".join("_abcdefghi"[int(candidate.grid[0, 0])] for candidate in ranked)


VOTES_A = [prediction([[1]], 0, log_prob=log(0.1)), prediction([[1]], 1, log_prob=log(0.2))]
SURE_B = [prediction([[2]], 2, log_prob=log(0.9))]
RARE_C = [prediction([[3]], 3, log_prob=log(0.05))]


def test_probability_sums_over_predictions() -> None:
    found = [*VOTES_A, *SURE_B, *RARE_C]
    assert order("votes", found) == "abc"
    assert order("probability", found) == "bac"
    assert order("probability", [*found, replace(RARE_C[0], view=4, log_prob=log(0.86))]) == "cba"


@pytest.mark.parametrize(
    ("by", "worths"),
    [
        ("poe", {"a": -(3.0 + 2.5), "b": -(3.0 + 3.0), "c": -(4.0 + 1.0)}),
        ("nvarc", {"a": 2 - 5.5 / 2, "b": 1 - 6.0 / 2, "c": 1 - 5.0 / 2}),
        ("probmul", {"a": 6 + log(0.1 * 0.2) + 0.5, "b": 3 + log(0.9) + 0, "c": 3 + log(0.05) + 1}),
    ],
)
def test_scores_select(by: Selection, worths: dict[str, float]) -> None:
    given = scores(a=[3.0, 2.5], b=[3.0, 3.0], c=[4.0, 1.0])
    assert order(by, [*VOTES_A, *SURE_B, *RARE_C], given) == "".join(sorted(worths, key=lambda name: -worths[name]))
    assert order(by, RARE_C[::-1] + SURE_B + VOTES_A, given[::-1]) == order(by, [*VOTES_A, *SURE_B, *RARE_C], given)


def test_the_models_own_verdict_selects() -> None:
    given = [
        replace(score, verdict=verdict)
        for score, verdict in zip(scores(a=[1.0, 1.0], b=[2.0, 2.0], c=[3.0, 3.0]), [-1, 4, 1, 1, 5, -9], strict=True)
    ]
    found = [*VOTES_A, *SURE_B, *RARE_C]
    assert order("verify", found, given) == order("verify", found, given[::-1]) == "abc"
    assert order("verify", found, [replace(given[2], verdict=1.6), *given[:2], *given[4:]]) == "bac"
    assert order("verify", found, given[4:]) == "cab"
    assert order("verify", found, scores(c=[1.0])) == "abc"  # without verdicts


def test_the_three_ways_to_use_scores_differ() -> None:
    given = scores(a=[3.0, 2.5], b=[3.0, 3.0], c=[4.0, 1.0])
    found = [*VOTES_A, *SURE_B, *RARE_C]
    assert {by: order(by, found, given) for by in ("poe", "nvarc", "probmul")} == {
        "poe": "cab",
        "nvarc": "acb",
        "probmul": "bac",
    }


@pytest.mark.parametrize("by", ["poe", "nvarc", "probmul"])
def test_what_was_not_scored_comes_after_what_was(by: Selection) -> None:
    assert order(by, [*VOTES_A, *SURE_B, *RARE_C], scores(c=[90.0])) == "cab"
    assert order(by, [*VOTES_A, *SURE_B, *RARE_C]) == "abc"


def test_cells_that_most_views_agree_on_make_a_grid() -> None:
    answers = [[[1, 2, 9]], [[1, 9, 3]], [[9, 2, 3]], [[5]]]
    found = [prediction(grid, view) for view, grid in enumerate(answers)]
    ranked = rank_candidates(found, by="cells")
    assert [grid_lists(candidate.grid) for candidate in ranked] == [[[1, 2, 3]], *answers]
    again = rank_candidates([*found, prediction([[1, 2, 3]], 9)], by="cells")
    assert len(again) == 5 and again[0].votes == 1  # it is a candidate of its own then
    assert rank_candidates([], by="cells") == []


def test_cells_that_are_even_are_those_of_the_better_candidate() -> None:
    found = [prediction([[1, 1]], 0, log_prob=-5.0), prediction([[2, 2]], 1, log_prob=-1.0)]
    assert grid_lists(rank_candidates(found, by="cells")[0].grid) == [[2, 2]]


def duels(*comparisons: tuple[str, str, float]) -> list[CandidateScore]:
    """(first, second, margin in nats), one a view."""
    grids = {name: as_grid([["_abcdefghi".index(name)]]) for name in "abcd"}
    return [
        CandidateScore("small", 0, view, grids[one], 1.0, None, ((grids[other], margin),))
        for view, (one, other, margin) in enumerate(comparisons)
    ]


def test_comparisons_select_by_bradley_terry() -> None:
    found = [*VOTES_A, *SURE_B, *RARE_C]
    assert order("pairwise", found, duels(("a", "b", -3), ("c", "a", 4), ("b", "c", 1))) == "bca"
    assert order("pairwise", found, duels(("b", "a", 3), ("a", "c", -4), ("c", "b", -1))) == "bca"
    assert order("pairwise", found, duels(("b", "c", -2.0))) == "cba", "what was not compared comes after"
    assert order("pairwise", found) == "abc" and order("pairwise", []) == ""
    assert order("pairwise", found, duels(("a", "d", -9.0))) == "abc", "a candidate that is no more"
    assert order("pairwise", found, duels(("a", "b", -1e9), ("a", "c", -1e9), ("b", "c", -1e9))) == "cba"


def test_strengths_are_those_that_the_wins_are_likeliest_under() -> None:
    """At the maximum the expected wins of each equal its wins; the prior's half wins are among both."""
    wins = np.array([[0, 3, 1.5, 0], [1, 0, 2.0, 0], [0.5, 4, 0, 0], [0, 0, 0, 0]])
    strengths = np.exp(bradley_terry(wins))
    met = (wins + wins.T) > 0
    chance = strengths[:, None] / (strengths[:, None] + strengths[None, :])
    np.testing.assert_allclose(((wins + wins.T + met) * chance).sum(1), (wins + 0.5 * met).sum(1), atol=1e-6)
    assert np.log(strengths).mean() == pytest.approx(0)
