"""Rules made up by chance: seeded, varied, never degenerate, and none that an evaluation set holds."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from arc_kaggle.errors import ConfigError
from arc_kaggle.synth.rules.base import Family, Setting, Unfit
from arc_kaggle.synth.rules.catalogue import FAMILIES, TOPICS, chains
from arc_kaggle.synth.rules.sampling import Sample, draw_pairs, sample
from arc_kaggle.synth.rules.selecting import SELECTING
from arc_kaggle.synth.rules.steps import RuleStep, check_pairs, check_params, check_steps
from arc_kaggle.synth.sample import describe, is_verified, rule_id, sample_rule
from arc_kaggle.tasks.grid import Grid, as_grid, grid_key, same_grid
from arc_kaggle.tasks.leaks import find_leaks_of
from arc_kaggle.tasks.task import Pair

DIFFICULTIES = (0.0, 0.5, 1.0)


def drawn(difficulty: float, n_rules: int, n_pairs: int = 5, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [sample(rng, difficulty, n_pairs) for _ in range(n_rules)]


@pytest.fixture(scope="module")
def samples() -> dict[float, list[Sample]]:
    """Rules of each difficulty, for the tests that only look at them."""
    return {difficulty: drawn(difficulty, 300) for difficulty in DIFFICULTIES}


def outputs(pairs: tuple[Pair, ...]) -> list[Grid]:
    return [pair.output for pair in pairs if pair.output is not None]


def pair(given: list[list[int]], wanted: list[list[int]]) -> Pair:
    return Pair(as_grid(given), as_grid(wanted))


def step(name: str, **params: object) -> RuleStep:
    return RuleStep(FAMILIES[name], params)


# What there is --------------------------------------------------------------------------------------------------------


def test_there_are_as_many_families_and_chains_as_promised() -> None:
    assert len(FAMILIES) >= 140
    assert len({family.topic for family in FAMILIES.values()}) == len(TOPICS) == 16
    assert sum(1 for _ in chains(2)) >= 500
    assert all(family.name == name for name, family in FAMILIES.items())


def test_no_family_hides_another_of_its_name() -> None:
    """Families of the selecting topic are made, not defined: their names could meet those of others."""
    defined = {id(value) for topic in TOPICS for value in vars(topic).values() if isinstance(value, Family)}
    assert len(FAMILIES) == len(defined) + len(SELECTING)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_drawn_alone_and_is_not_often_refused(name: str) -> None:
    rng = np.random.default_rng(1)
    found = [sample(rng, difficulty, 4, (name,)) for difficulty in DIFFICULTIES for _ in range(4)]
    assert {each.names for each in found} == {(name,)}
    assert sum(each.refused.total() for each in found) < 3 * len(found)


NONSENSE = {*product(["any", "same"], ["sparse", "objects"]), ("sparse", "objects")}


def test_a_later_rule_is_not_about_a_colour_that_an_earlier_one_added() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        border, repaint = sample(rng, 0.5, 4, ("add_border", "repaint")).steps
        assert border.params["colour"] not in repaint.params.values()


def test_a_chain_takes_its_rules_from_different_topics_and_makes_sense_to_the_next() -> None:
    for chain in chains(2):
        first, second = chain
        assert first.topic != second.topic
        assert first.gives != "end" and second.takes is not None
        assert (first.gives, second.takes) not in NONSENSE


# Drawing --------------------------------------------------------------------------------------------------------------


def test_equal_states_give_equal_rules_and_other_states_others() -> None:
    ids = [[sample_rule(np.random.default_rng(seed), 1.0, 4)[0] for seed in range(30)] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 30


def test_an_id_names_the_families_and_tells_parameters_and_pairs_apart(samples: dict[float, list[Sample]]) -> None:
    found = samples[1.0]
    assert [rule_id(each).split("/")[:2] for each in found] == [["synth", "+".join(each.names)] for each in found]
    assert len({rule_id(each) for each in found}) == len(found)
    one = Sample((step("turn", quarters=1),), found[0].pairs, Counter())
    two = Sample((step("turn", quarters=2),), found[0].pairs, Counter())
    assert rule_id(one) != rule_id(two) != rule_id(Sample(two.steps, found[1].pairs, Counter()))
    assert describe(one) == "turn(quarters=1)"
    assert describe(Sample((*one.steps, step("trim")), (), Counter())) == "turn(quarters=1) + trim"


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_pairs_are_grids_that_differ_and_outputs_are_known(
    samples: dict[float, list[Sample]], difficulty: float
) -> None:
    for each in samples[difficulty]:
        assert len(each.pairs) == len(outputs(each.pairs)) == 5
        assert len({grid_key(pair.input) for pair in each.pairs}) == 5
        for grid in [grid for pair in each.pairs for grid in (pair.input, pair.output)]:
            assert grid is not None and same_grid(as_grid(grid), grid)
            assert grid.dtype == np.int8 and grid.flags.c_contiguous and not grid.flags.writeable


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_no_rule_is_degenerate(samples: dict[float, list[Sample]], difficulty: float) -> None:
    for each in samples[difficulty]:
        assert sum(same_grid(pair.input, out) for pair, out in zip(each.pairs, outputs(each.pairs), strict=True)) <= 2
        assert max(Counter(grid_key(out) for out in outputs(each.pairs)).values()) <= 3
        assert all(out.any() for out in outputs(each.pairs))


def test_the_dial_goes_from_tiny_grids_and_single_rules_to_large_ones_and_chains(
    samples: dict[float, list[Sample]],
) -> None:
    sides = {d: np.array([max(pair.input.shape) for s in samples[d] for pair in s.pairs]) for d in DIFFICULTIES}
    lengths = {d: Counter(len(each.steps) for each in samples[d]) for d in DIFFICULTIES}
    assert np.quantile(sides[0.0], 0.9) <= 6 and sides[0.0].max() <= 11
    assert sides[1.0].max() >= 20 and np.median(sides[1.0]) <= 10
    assert np.mean(sides[0.0]) < np.mean(sides[0.5]) < np.mean(sides[1.0])
    assert set(lengths[0.0]) == {1}
    assert min(lengths[1.0][n] for n in (1, 2, 3)) >= 45


def test_rules_are_many(samples: dict[float, list[Sample]]) -> None:
    assert len({name for each in samples[1.0] for name in each.names}) > 110
    assert len({each.names for each in samples[1.0]}) > 220


def test_there_are_no_dead_ends(samples: dict[float, list[Sample]]) -> None:
    """Accepted of all that were tried; after 200 refused ones in a row there would be an error."""
    accepted = {d: 300 / (300 + sum(each.refused.total() for each in samples[d])) for d in DIFFICULTIES}
    assert accepted[0.0] > 0.9 and accepted[0.5] > 0.35 and accepted[1.0] > 0.2


def test_what_cannot_be_drawn_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigError, match=r"rules of stairs at difficulty 0\.0, 500 pairs: 200 in a row were refused"):
        sample(np.random.default_rng(0), 0.0, 500, ("stairs",))


def test_a_bug_in_a_rule_is_found_by_its_verifier(samples: dict[float, list[Sample]]) -> None:
    assert all(is_verified(each) for each in samples[1.0])
    broken = Sample((step("flip", axis="vertical"),), (pair([[1], [2]], [[1], [2]]),), Counter())
    assert not is_verified(broken)


# Refusing -------------------------------------------------------------------------------------------------------------

SETTING = Setting(0.5, 8, (1, 2, 3))
ONE_TWO, TWO_ONE = [[1, 2], [0, 0]], [[2, 1], [0, 0]]


def test_unchanged_inputs_are_refused() -> None:
    same, changed = pair(ONE_TWO, ONE_TWO), pair(ONE_TWO, TWO_ONE)
    check_pairs((same, changed, pair(TWO_ONE, ONE_TWO)))
    with pytest.raises(Unfit, match="most outputs equal their inputs"):
        check_pairs((same, changed))


def test_equal_outputs_are_refused() -> None:
    one, two, other = pair(ONE_TWO, [[1]]), pair(TWO_ONE, [[1]]), pair(TWO_ONE, [[2]])
    check_pairs((one,))
    check_pairs((one, two, other))
    for equal in ((one, two), (one, one, two, other)):
        with pytest.raises(Unfit, match="most outputs are the same"):
            check_pairs(equal)


def test_a_rule_without_effect_is_refused() -> None:
    steps = (step("flip", axis="vertical"), step("repaint", old=1, new=5))
    given = ([[1, 2], [2, 2]], [[2, 2], [2, 1]], [[2, 3], [3, 3]])
    pairs = tuple(pair(grid, [[5 if c == 1 else c for c in row] for row in grid[::-1]]) for grid in given)
    check_steps(steps, pairs)
    with pytest.raises(Unfit, match="makes no difference"):
        check_steps(steps, (pairs[0], pairs[2], pairs[2]))
    with pytest.raises(Unfit, match="of one colour"):
        check_steps(steps, (pair([[1, 1]], [[5, 5]]), pair([[1]], [[5]])))


def test_a_parameter_that_shows_in_fewer_than_two_pairs_is_refused() -> None:
    steps = (step("rays", direction="right"),)
    shown, hidden = pair([[1, 0], [0, 0]], [[1, 1], [0, 0]]), pair([[1]], [[1]])
    check_params(np.random.default_rng(0), SETTING, steps, (shown, shown, hidden))
    with pytest.raises(Unfit, match="a parameter is not shown"):
        check_params(np.random.default_rng(0), SETTING, steps, (shown, hidden, hidden))


def test_empty_and_overgrown_outputs_are_not_taken() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(Unfit, match="too few inputs"):
        draw_pairs(rng, Setting(0.5, 8, (1,)), (step("drop_colour", colour=1),), 3)
    wide = Setting(0.0, 6, (1, 2))
    assert wide.widest == 9
    with pytest.raises(Unfit, match="too few inputs"):
        draw_pairs(rng, wide, (step("upscale", factor=5),), 3)


# Evaluation sets ------------------------------------------------------------------------------------------------------


def test_pairs_of_an_evaluation_set_are_rare_coincidences_on_tiny_grids(samples: dict[float, list[Sample]]) -> None:
    """No rule is copied; what `arc-kaggle synth` and the trainer leave out is well below one pair in a hundred."""
    finder = find_leaks_of(("arc1:evaluation", "arc2:evaluation"))
    for difficulty, found in samples.items():
        hits = [pair for each in found for pair in each.pairs if finder.find(pair)]
        assert len(hits) <= 0.01 * 5 * len(found), difficulty
        assert all(max(pair.input.shape) <= 6 for pair in hits)
