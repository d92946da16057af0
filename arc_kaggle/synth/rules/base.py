"""What a family of rules is: parameters drawn once a rule, inputs drawn once a pair, and outputs that follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid

T = TypeVar("T")
Rng = np.random.Generator
Params = dict[str, Any]
"""The parameters of a rule by name: plain integers, texts, and tuples of them, as a verifier takes them."""

TINY, LARGE = 6, 24
"""The longest side of an input at difficulty 0 and at difficulty 1."""


class Unfit(Exception):
    """This input says nothing, or nothing clear, under this rule: another one is drawn."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What all pairs of a rule share beside its parameters: how much is in a grid, its longest side, its colours."""

    difficulty: float
    """0..1: number of objects, noise."""
    longest: int
    """Cells: no side of an input is longer."""
    palette: tuple[int, ...]
    """Colours 1..9 that inputs are painted with, or that a rule may be about."""
    shape: tuple[float, float] | None = None
    """Where all inputs have one shape: height and width, each as a share 0..1 of the range it is drawn from."""
    taken: tuple[int, ...] = ()
    """More colours that are seen and that new ones differ from."""
    style: float = 0.0
    """0..1: which kind of picture the inputs of rules are that take any."""

    def side(self, rng: Rng, low: int = 3, share: float | None = None) -> int:
        """A side of `low` cells or more; where `longest` is less than `low`, that."""
        low = max(low, self.longest // 2)
        share = rng.random() if share is None else share
        return low + int(share * (max(low, self.longest) - low + 1))

    def sides(self, rng: Rng, low: int = 3) -> tuple[int, int]:
        """Height and width."""
        height, width = self.shape or (None, None)
        return self.side(rng, low, height), self.side(rng, low, width)

    @property
    def widest(self) -> int:
        """Cells: no side of an output is longer, so that the grids of easy rules stay small."""
        return min(MAX_SIDE, 3 * self.longest // 2)

    def amount(self, rng: Rng, low: int, high: int) -> int:
        """How many: from `low` up to what the difficulty allows, `high` at 1."""
        return between(rng, low, low + round(math.sqrt(self.difficulty) * (high - low)))

    def others(self, rng: Rng, n: int = 1) -> list[int]:
        """`n` colours 1..9 outside the palette. Raises Unfit where there are fewer."""
        free = [colour for colour in range(1, N_COLOURS) if colour not in (*self.palette, *self.taken)]
        return some(rng, free, n)

    def other(self, rng: Rng) -> int:
        """A colour 1..9 outside the palette. Raises Unfit where there is none."""
        return self.others(rng)[0]


Kind = Literal["any", "sparse", "objects", "same", "end"]
"""What a grid is to the next rule of a chain: just cells; painted cells on background 0; objects on background 0 that
do not touch; what it was; or nothing to go on from."""

Draw = Callable[[Rng, Setting], Params]
Make = Callable[[Rng, Setting, Params], Grid]


@dataclass(frozen=True, slots=True)
class Family:
    """Rules that differ in their parameters only."""

    name: str
    topic: str
    """The module that holds it; a chain takes every rule from another topic."""
    apply: Callable[..., Grid]
    """The rule: (input, **parameters) -> output. Raises Unfit."""
    make: Make
    """An input that shows the parameters, most of the time. Raises Unfit."""
    draw: Draw
    """Parameters. Raises Unfit where the palette does not allow any."""
    takes: Kind | None
    """What a grid must be for this rule to come later in a chain; None where it cannot."""
    gives: Kind
    hardness: float
    """The difficulty from which on the family appears, 0..1."""
    grows: int
    """How many times longer than the input's side the output's may be."""


def family(
    make: Make,
    draw: Draw = lambda rng, setting: {},
    *,
    takes: Kind | None = None,
    gives: Kind = "any",
    hardness: float = 0.0,
    grows: int = 1,
) -> Callable[[Callable[..., Grid]], Family]:
    """Make the decorated rule a family that has the function's name."""

    def made(rule: Callable[..., Grid]) -> Family:
        topic = rule.__module__.rpartition(".")[2]
        return Family(rule.__name__, topic, rule, make, draw, takes, gives, hardness, grows)

    return made


def between(rng: Rng, low: int, high: int) -> int:
    """An integer from `low` to `high`, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick(rng: Rng, values: Sequence[T]) -> T:
    """One of the values."""
    return values[int(rng.random() * len(values))]


def some(rng: Rng, values: Sequence[T], n: int) -> list[T]:
    """`n` different ones of the values, in a random order. Raises Unfit where there are fewer."""
    need(n <= len(values), "too few colours or places")
    pool = list(values)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(n)]


def blank(height: int, width: int, colour: int = 0) -> Grid:
    """A grid of one colour that can be painted on."""
    return np.full((height, width), colour, dtype=np.int8)


def fits(grid: Grid) -> Grid:
    """The grid, where its sides are 1..30. Raises Unfit."""
    need(min(grid.shape) >= 1 and max(grid.shape) <= MAX_SIDE, "a side is not 1..30")
    return grid


def need(holds: object, otherwise: str = "the input does not suit the rule") -> None:
    """Raises Unfit where something does not hold that a rule relies on."""
    if not holds:
        raise Unfit(otherwise)
