"""Verifiers share no code with the families, accept what these make, and reject nearly every fault."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arc_kaggle.synth.verifiers
from arc_kaggle.synth.rules.base import Setting, Unfit
from arc_kaggle.synth.rules.catalogue import FAMILIES
from arc_kaggle.synth.rules.sampling import Sample, sample
from arc_kaggle.synth.verifiers.catalogue import VERIFIERS, verify
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid

FILES = sorted(Path(arc_kaggle.synth.verifiers.__path__[0]).glob("*.py"))
FOLLOWERS = [name for name, family in FAMILIES.items() if family.takes]
Chain = list[tuple[str, dict[str, Any]]]


def chain_of(drawn: Sample) -> Chain:
    return [(step.family.name, step.params) for step in drawn.steps]


def with_cell(grid: Grid, rng: np.random.Generator) -> Grid:
    """Another colour in one cell."""
    cells = np.array(grid)
    y, x = rng.integers(grid.shape[0]), rng.integers(grid.shape[1])
    cells[y, x] = (cells[y, x] + rng.integers(1, 10)) % 10
    return cells


def with_swaps(grid: Grid) -> Iterator[Grid]:
    """Every two colours of the grid swapped, and one of them swapped with a colour that it has not."""
    colours = np.unique(grid).tolist()
    absent = next(colour for colour in range(10) if colour not in colours) if len(colours) < 10 else colours[0]
    for one, two in [*combinations(colours, 2), (colours[-1], absent)]:
        table = np.arange(10, dtype=np.int8)
        table[[one, two]] = two, one
        yield table[grid]


def share_rejected(chain: Chain, given: Grid, faults: list[Grid]) -> tuple[int, int]:
    """(rejected, all) of faults; a verifier must also say which grid is right."""
    return sum(not verify(chain, given, fault) for fault in faults), len(faults)


def faults_caught(drawn: list[Sample], n_cells: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """((rejected, all) of one-cell faults, the same of colour swaps), over all pairs of some rules."""
    rng = np.random.default_rng(0)
    cells, swaps = np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for rule in drawn:
        for pair in rule.pairs:
            assert pair.output is not None
            assert verify(chain_of(rule), pair.input, pair.output), f"{chain_of(rule)}, {pair.input.tolist()}"
            cells += share_rejected(chain_of(rule), pair.input, [with_cell(pair.output, rng) for _ in range(n_cells)])
            wrong = [fault for fault in with_swaps(pair.output) if not same_grid(fault, pair.output)]
            swaps += share_rejected(chain_of(rule), pair.input, wrong)
    return tuple(cells.tolist()), tuple(swaps.tolist())


def test_verifiers_import_nothing_of_the_generator_and_no_arrays() -> None:
    assert len(FILES) > 10
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        own = {name for name in names if name.startswith("arc_kaggle")}
        assert {name for name in own if not name.startswith("arc_kaggle.synth.verifiers")} <= {
            "arc_kaggle.tasks.grid"
        }, path.name
        assert names - own <= {"__future__", "collections.abc", "functools", "inspect", "itertools", "types", "typing"}


def test_every_family_has_a_verifier_and_every_verifier_a_family() -> None:
    assert VERIFIERS.keys() == FAMILIES.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_verifier_accepts_what_its_family_makes_and_rejects_faults(name: str) -> None:
    rng = np.random.default_rng(3)
    rules = [sample(rng, difficulty, 4, (name,)) for difficulty in (0.2, 0.6, 1.0)]
    (caught, cells), (caught_swaps, swaps) = faults_caught(rules, n_cells=9)
    assert cells >= 100 and swaps >= 12
    assert caught >= 0.99 * cells
    assert caught_swaps >= 0.99 * swaps


def test_chains_are_verified_from_end_to_end() -> None:
    rng = np.random.default_rng(4)
    rules = [rule for rule in (sample(rng, 1.0, 3) for _ in range(240)) if len(rule.steps) > 1]
    assert len({rule.names for rule in rules}) > 100
    (caught, cells), (caught_swaps, swaps) = faults_caught(rules, n_cells=2)
    assert caught >= 0.99 * cells > 500
    assert caught_swaps >= 0.99 * swaps > 500


@pytest.mark.parametrize("name", FOLLOWERS)
def test_both_agree_on_grids_of_any_kind(name: str) -> None:
    """Families that may follow others meet grids that no scene of theirs has drawn."""
    rng, family = np.random.default_rng(5), FAMILIES[name]
    for _ in range(25):
        grid = rng.integers(0, rng.integers(2, 10), size=rng.integers(1, 10, size=2)).astype(np.int8)
        grid[rng.random(grid.shape) > 0.6 * rng.random()] = 0
        try:
            params = family.draw(rng, Setting(0.5, 9, tuple(np.unique(grid[grid > 0]).tolist())))
            output = family.apply(as_grid(grid), **params)
        except (Unfit, IndexError):  # too empty for the rule
            continue
        assert verify([(name, params)], grid, output), f"{params}, {grid.tolist()}"


def test_an_input_without_a_clear_answer_has_no_right_output() -> None:
    tie = as_grid([[1, 0, 2]])
    assert not any(verify([("crop_largest", {})], tie, as_grid([[colour]])) for colour in (1, 2))
    assert verify([("crop_largest", {})], as_grid([[1, 0, 2, 2]]), as_grid([[2, 2]]))
    assert not verify([("crop_content", {})], as_grid([[0]]), as_grid([[0]]))


def test_a_family_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such"):
        verify([("no_such", {})], as_grid([[1]]), as_grid([[1]]))
