"""Drawing a rule: a chain of families, parameters, pairs; again where they do not show the whole rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from arc_kaggle.errors import ConfigError
from arc_kaggle.synth.rules.base import LARGE, TINY, Family, Rng, Setting, Unfit, between, fits, need, pick, some
from arc_kaggle.synth.rules.catalogue import FAMILIES, followers, kind_after
from arc_kaggle.synth.rules.steps import RuleStep, Steps, apply_steps, check_pairs, check_params, check_steps
from arc_kaggle.tasks.grid import MAX_SIDE, Grid, grid_key
from arc_kaggle.tasks.task import Pair

MOST_TRIES = 200
"""Rules that are tried before giving up; of easy ones about 95 in 100 are fine, of the most difficult one in four."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A rule with pairs that follow it, and why others before it were refused."""

    steps: Steps
    pairs: tuple[Pair, ...]
    refused: Counter[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The families of the chain."""
        return tuple(step.family.name for step in self.steps)


def sample(rng: Rng, difficulty: float, n_pairs: int, names: Sequence[str] = ()) -> Sample:
    """A rule of any families, or of a chain of the given ones. Raises ConfigError after too many refused ones."""
    refused: Counter[str] = Counter()
    families = tuple(FAMILIES[name] for name in names)
    level = max([difficulty * rng.random(), *(family.hardness for family in families)])
    n_steps = 1 + int(rng.random() < 1.4 * level) + int(rng.random() < level - 0.2)
    for _ in range(MOST_TRIES):
        try:
            steps, pairs = _try(rng, level, n_pairs, families or draw_chain(rng, level, n_steps))
            return Sample(steps, pairs, refused)
        except Unfit as error:
            refused[str(error)] += 1
    reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.most_common(3))
    wanted = "+".join(names) or "any families"
    raise ConfigError(
        f"rules of {wanted} at difficulty {difficulty}, {n_pairs} pairs: {MOST_TRIES} in a row were refused, most "
        f"often because {reasons}; ask for fewer pairs, another difficulty or other families"
    )


def _try(rng: Rng, difficulty: float, n_pairs: int, chain: tuple[Family, ...]) -> tuple[Steps, tuple[Pair, ...]]:
    setting = draw_setting(rng, difficulty, chain)
    steps = draw_steps(rng, setting, chain)
    pairs = draw_pairs(rng, setting, steps, n_pairs)
    check_pairs(pairs)
    check_steps(steps, pairs)
    check_params(rng, setting, steps, pairs)
    return steps, pairs


def draw_chain(rng: Rng, difficulty: float, length: int) -> tuple[Family, ...]:
    """Families of different topics, each of which can follow the one before. Raises Unfit."""
    chain: tuple[Family, ...] = (pick(rng, [family for family in FAMILIES.values() if family.hardness <= difficulty]),)
    kind = kind_after("any", chain[0])
    while len(chain) < length:
        following = [family for family in followers(chain, kind) if family.hardness <= difficulty]
        need(following, "nothing can follow")
        chain = (*chain, pick(rng, following))
        kind = kind_after(kind, chain[-1])
    return chain


def draw_setting(rng: Rng, difficulty: float, chain: tuple[Family, ...]) -> Setting:
    """Sizes and colours; small grids more often than large ones, so that what follows may grow them."""
    longest = TINY + round((LARGE - TINY) * difficulty * rng.random())
    for family in chain[1:]:
        longest = min(longest, max(TINY, MAX_SIDE // family.grows))
    n_colours = between(rng, 1 if rng.random() < 0.2 else 2, 3 + round(2 * difficulty))
    shape = (rng.random(), rng.random()) if rng.random() < 0.4 else None
    return Setting(difficulty, longest, tuple(some(rng, range(1, 10), n_colours)), shape, style=rng.random())


def draw_steps(rng: Rng, setting: Setting, chain: tuple[Family, ...]) -> Steps:
    """Parameters for every family; those of a later one are drawn for the colours of what it will get."""
    first = RuleStep(chain[0], chain[0].draw(rng, setting))
    steps = [first]
    if len(chain) > 1:
        grid = chain[0].make(rng, setting, first.params)
        given = set(grid.ravel().tolist())
        grid = first.apply(grid)
        for family in chain[1:]:
            seen = tuple(np.unique(grid[grid > 0]).tolist())
            need(seen, "an output is empty")
            old = tuple(colour for colour in seen if colour in given)  # what a step has added is not taken away again
            steps.append(RuleStep(family, family.draw(rng, replace(setting, palette=old or seen, taken=seen))))
            grid = steps[-1].apply(grid)
    return tuple(steps)


def draw_pairs(rng: Rng, setting: Setting, steps: Steps, n_pairs: int) -> tuple[Pair, ...]:
    """Pairs with different inputs and outputs that are not empty; about one input in three must do."""
    pairs: dict[tuple[int, bytes], Pair] = {}
    tries = 0
    while len(pairs) < n_pairs:
        need(tries < 8 + 3 * len(pairs), "too few inputs suit it")
        tries += 1
        try:
            grid = steps[0].family.make(rng, setting, steps[0].params)
            output = apply_steps(steps, grid)
            need(output.any() and max(output.shape) <= setting.widest)
            pairs[grid_key(grid)] = Pair(frozen(grid), frozen(output))
        except Unfit:
            continue
    return tuple(pairs.values())


def frozen(grid: Grid) -> Grid:
    """A read-only copy with cells in reading order. Raises Unfit where a side is not 1..30."""
    copy: Grid = np.array(fits(grid), dtype=np.int8, order="C")
    copy.setflags(write=False)
    return copy
