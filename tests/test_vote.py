"""The vote: by number of views, then by log-probability per token, then by the first view; nothing else decides."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from strategies import prediction

from arc_kaggle.candidate import Prediction
from arc_kaggle.grid import grid_lists
from arc_kaggle.vote import rank_candidates


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
