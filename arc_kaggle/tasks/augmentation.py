"""Augmentations, as values: a symmetry of the square, then a colour permutation, then an order of the train pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.grid import N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair, Task

if TYPE_CHECKING:
    pass


N_SYMMETRIES = 8
SAME_COLOURS = tuple(range(N_COLOURS))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One way to look at a task. `symmetry` 0..7: quarter turns to the left, from 4 on of the transposed grid.

    `colours[c]` is what colour c becomes. `order[i]` is the train pair that comes i-th; None keeps the given order.
    """

    symmetry: int = 0
    colours: tuple[int, ...] = SAME_COLOURS
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.symmetry < N_SYMMETRIES:
            raise ConfigError(f"augmentation: found symmetry {self.symmetry}, expected 0..7")
        if sorted(self.colours) != list(SAME_COLOURS):
            raise ConfigError(f"augmentation: found colours {self.colours}, expected a permutation of 0..9")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ConfigError(f"augmentation: found order {self.order}, expected a permutation of 0..n-1")

    def apply(self, grid: Grid) -> Grid:
        """The grid as this view shows it; shape (height, width) or its transpose."""
        turned = np.rot90(grid.T if self.symmetry >= 4 else grid, self.symmetry % 4)
        return np.ascontiguousarray(np.array(self.colours, dtype=np.int8)[turned])

    def invert(self, grid: Grid) -> Grid:
        """The grid that `apply` turns into this one."""
        plain = np.argsort(np.array(self.colours)).astype(np.int8)[grid]
        turned = np.rot90(plain, -(self.symmetry % 4))
        return np.ascontiguousarray(turned.T if self.symmetry >= 4 else turned)

    def apply_task(self, task: Task) -> Task:
        """The view: every grid seen through `apply`, train pairs in `order`. Raises ConfigError if that cannot be."""
        order = range(len(task.train)) if self.order is None else self.order
        if len(order) != len(task.train):
            raise ConfigError(f"task {task.id}: an order of {len(order)} for {len(task.train)} train pairs")
        train = tuple(self._apply_pair(task.train[i]) for i in order)
        return Task(task.id, train, tuple(self._apply_pair(pair) for pair in task.test))

    def _apply_pair(self, pair: Pair) -> Pair:
        return Pair(self.apply(pair.input), None if pair.output is None else self.apply(pair.output))

    def to_json(self) -> dict[str, Any]:
        order = None if self.order is None else list(self.order)
        return {"symmetry": self.symmetry, "colours": list(self.colours), "order": order}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Augmentation:
        order = value["order"]
        return cls(value["symmetry"], tuple(value["colours"]), None if order is None else tuple(order))


def sample_augmentation(
    rng: np.random.Generator, n_train: int, keep_background: float = 0.9, symmetry: int | None = None
) -> Augmentation:
    """One augmentation, drawn evenly; colour 0, the background, stays itself with chance `keep_background`, 0..1."""
    colours = rng.permutation(N_COLOURS)
    if rng.random() < keep_background:
        colours = np.concatenate([[0], 1 + rng.permutation(N_COLOURS - 1)])
    symmetry = int(rng.integers(N_SYMMETRIES)) if symmetry is None else symmetry
    return Augmentation(symmetry, tuple(map(int, colours)), tuple(map(int, rng.permutation(n_train))))


def spread_augmentations(
    n_views: int, rng: np.random.Generator, n_train: int, keep_background: float = 0.9
) -> Iterator[Augmentation]:
    """`n_views` augmentations that use the 8 symmetries evenly; the first leaves the task as it is."""
    for view in range(n_views):
        spread = sample_augmentation(rng, n_train, keep_background, symmetry=view % N_SYMMETRIES)
        yield spread if view else Augmentation()


def task_rng(task: Task, seed: int, purpose: str) -> np.random.Generator:
    """A generator that is the task's own: the same whatever runs before it, in whichever process."""
    digest = hashlib.sha256(f"{task.id}/{purpose}".encode(errors="surrogatepass")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
