"""A rule with its parameters as a chain of steps, and whether pairs show all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.synth.rules.base import Family, Params, Rng, Setting, Unfit, need
from arc_kaggle.tasks.grid import Grid, grid_key, same_grid
from arc_kaggle.tasks.task import Pair


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One rule of a chain with its parameters."""

    family: Family
    params: Params

    def apply(self, grid: Grid) -> Grid:
        """The output. Raises Unfit."""
        return self.family.apply(grid, **self.params)


Steps = tuple[RuleStep, ...]


def apply_steps(steps: Sequence[RuleStep], grid: Grid) -> Grid:
    """One rule after the other. Raises Unfit."""
    for step in steps:
        grid = step.apply(grid)
    return grid


def check_pairs(pairs: tuple[Pair, ...]) -> None:
    """Raises Unfit where most outputs equal their inputs, or each other."""
    outputs = [pair.output for pair in pairs if pair.output is not None]
    unchanged = sum(same_grid(pair.input, output) for pair, output in zip(pairs, outputs, strict=True))
    need(2 * unchanged < len(pairs), "most outputs equal their inputs")
    _, most = Counter(grid_key(output) for output in outputs).most_common(1)[0]
    need(len(pairs) == 1 or (most < len(pairs) and 2 * most <= len(pairs) + 1), "most outputs are the same")


def check_steps(steps: Steps, pairs: tuple[Pair, ...]) -> None:
    """Raises Unfit where a rule of a chain makes no difference in most pairs, or only one colour is left of all."""
    if len(steps) > 1:
        colours = {int(colour) for pair in pairs if pair.output is not None for colour in np.unique(pair.output)}
        need(len(colours) > 1, "all outputs are of one colour")
        for left_out in range(len(steps)):
            rest = (*steps[:left_out], *steps[left_out + 1 :])
            need(2 * _differences(rest, pairs, len(pairs)) >= len(pairs), "a rule of the chain makes no difference")


def check_params(rng: Rng, setting: Setting, steps: Steps, pairs: tuple[Pair, ...]) -> None:
    """Raises Unfit where another value of a parameter would give the same outputs in all pairs, or all but one."""
    enough = min(2, len(pairs))
    for i, step in enumerate(steps):
        for name, value in step.params.items():
            other = _other_value(rng, setting, step, name)
            if other != value:
                changed = RuleStep(step.family, {**step.params, name: other})
                changes = _differences((*steps[:i], changed, *steps[i + 1 :]), pairs, enough)
                need(changes >= enough, "a parameter is not shown")


def _other_value(rng: Rng, setting: Setting, step: RuleStep, name: str) -> object:
    """Another value that the parameter could have, or its own where none turns up."""
    for _ in range(6):
        try:
            other = step.family.draw(rng, setting).get(name)
        except Unfit:
            continue
        if other != step.params[name]:
            return other
    return step.params[name]


def _differences(steps: Sequence[RuleStep], pairs: tuple[Pair, ...], enough: int) -> int:
    """In how many pairs other rules give another output, or none at all; counted up to `enough`."""
    n = 0
    for pair in pairs:
        try:
            n += pair.output is None or not same_grid(apply_steps(steps, pair.input), pair.output)
        except Unfit:
            n += 1
        if n == enough:
            break
    return n
