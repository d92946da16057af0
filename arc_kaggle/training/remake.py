"""New tasks from old: one more transformation of all inputs, or of all outputs.

A task stays solvable: on the side of the outputs the rule is followed by a second one; on the side of the inputs every
transformation here can be undone, so that nothing the rule looks at is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from arc_kaggle.tasks.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair

Transform = Callable[[Grid], Grid]
Sample = Callable[[np.random.Generator], Transform]


def remake(pairs: Sequence[Pair], rng: np.random.Generator) -> tuple[Pair, ...]:
    """The pairs of a new task; those given where a grid would grow beyond 30 x 30."""
    name = sorted(TRANSFORMS)[int(rng.integers(len(TRANSFORMS)))]
    transform, on_inputs = TRANSFORMS[name](rng), bool(rng.random() < 0.5)
    made = tuple(_apply(pair, transform, on_inputs) for pair in pairs)
    grids = [pair.input if on_inputs else pair.output for pair in made]
    return made if all(grid is None or max(grid.shape) <= MAX_SIDE for grid in grids) else tuple(pairs)


def _apply(pair: Pair, transform: Transform, on_inputs: bool) -> Pair:
    if on_inputs:
        return replace(pair, input=transform(pair.input))
    return replace(pair, output=None if pair.output is None else transform(pair.output))


def _symmetry(rng: np.random.Generator) -> Transform:
    return Augmentation(int(rng.integers(1, N_SYMMETRIES))).apply


def _colours(rng: np.random.Generator) -> Transform:
    """A permutation that swaps, turns or mixes some colours, black among them."""
    chosen = rng.permutation(N_COLOURS)[: int(rng.integers(2, N_COLOURS + 1))]
    colours = np.arange(N_COLOURS)
    colours[chosen] = np.roll(chosen, 1)
    return Augmentation(colours=tuple(map(int, colours))).apply


def _enlarge(rng: np.random.Generator) -> Transform:
    """Every cell becomes a block of cells."""
    factor = int(rng.integers(2, 4))
    return lambda grid: grid.repeat(factor, axis=0).repeat(factor, axis=1)


def _tile(rng: np.random.Generator) -> Transform:
    """The grid twice beside itself, below itself, or both; each copy as it is, or mirrored."""
    across, down = [(True, False), (False, True), (True, True)][int(rng.integers(3))]
    mirrored = bool(rng.random() < 0.5)

    def tiled(grid: Grid) -> Grid:
        wide = np.hstack([grid, grid[:, ::-1] if mirrored else grid]) if across else grid
        return np.vstack([wide, wide[::-1] if mirrored else wide]) if down else wide

    return tiled


def _border(rng: np.random.Generator) -> Transform:
    """A frame of one cell in one colour."""
    colour = int(rng.integers(N_COLOURS))
    return lambda grid: np.pad(grid, 1, constant_values=colour)


def _lattice(rng: np.random.Generator) -> Transform:
    """Lines of one colour between all rows and columns."""
    colour = int(rng.integers(N_COLOURS))

    def spread(grid: Grid) -> Grid:
        wide = np.full((2 * grid.shape[0] - 1, 2 * grid.shape[1] - 1), colour, dtype=np.int8)
        wide[::2, ::2] = grid
        return wide

    return spread


def _roll(rng: np.random.Generator) -> Transform:
    """All cells move by so many rows and columns; what leaves on one side comes back on the other."""
    dy, dx = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1)][int(rng.integers(5))]
    return lambda grid: np.roll(grid, (dy, dx), axis=(0, 1))


TRANSFORMS: dict[str, Sample] = {
    "border": _border,
    "colours": _colours,
    "enlarge": _enlarge,
    "lattice": _lattice,
    "roll": _roll,
    "symmetry": _symmetry,
    "tile": _tile,
}
"""Each draws a transformation of grids that is one-to-one."""
