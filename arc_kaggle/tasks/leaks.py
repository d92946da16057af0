"""Is a training rule part of an evaluation set? By id, or by any pair up to symmetry and colours, swapped or not."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache

import numpy as np

from arc_kaggle.tasks.augmentation import N_SYMMETRIES, Augmentation
from arc_kaggle.tasks.dataset import is_named_set, load_tasks
from arc_kaggle.tasks.grid import N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair, Task

Fingerprint = tuple[object, ...]


class LeakFinder:
    """Knows the ids and the pairs of some evaluation tasks. A canonical form is made of what is looked for alone."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.ids: set[str] = set()
        self._pairs = defaultdict[Fingerprint, list[tuple[Pair, str]]](list)
        self._canonical: dict[Fingerprint, dict[bytes, str]] = {}
        for task in tasks:
            self.ids.add(task.id)
            for pair in (*task.train, *task.test):
                self._pairs[_fingerprint(pair)].append((pair, task.id))

    def find(self, pair: Pair) -> str | None:
        """The id of the evaluation task that holds this pair up to symmetry and colours, or None.

        Also where input and output have changed places: the inverse of a rule gives its answers away as well.
        """
        return self._find(pair) or (self._find(Pair(pair.output, pair.input)) if pair.output is not None else None)

    def _find(self, pair: Pair) -> str | None:
        fingerprint = _fingerprint(pair)
        if fingerprint not in self._pairs:
            return None
        if fingerprint not in self._canonical:
            self._canonical[fingerprint] = {canonical_pair(one): task_id for one, task_id in self._pairs[fingerprint]}
        return self._canonical[fingerprint].get(canonical_pair(pair))


def find_leaks_of(sources: Iterable[str]) -> LeakFinder:
    """What knows the tasks of all sources; a process has one for the same named sets. Raises TaskError, GridError."""
    names = tuple(sources)
    return _of_named_sets(names) if all(map(is_named_set, names)) else _finder(names)


def _finder(sources: tuple[str, ...]) -> LeakFinder:
    return LeakFinder(task for source in sources for task in load_tasks(source))


_of_named_sets = cache(_finder)


def canonical_pair(pair: Pair) -> bytes:
    """A digest that is equal exactly for pairs that differ by a symmetry of the square and a colour permutation."""
    forms = (_relabelled(pair, Augmentation(symmetry)) for symmetry in range(N_SYMMETRIES))
    return hashlib.sha256(min(forms)).digest()


def _relabelled(pair: Pair, augmentation: Augmentation) -> bytes:
    """Both grids turned, colours renamed in the order in which they first appear, and the shapes."""
    grids = [augmentation.apply(grid) for grid in _sides(pair)]
    cells = np.concatenate([grid.ravel() for grid in grids])
    colours, first = np.unique(cells, return_index=True)
    names = np.zeros(N_COLOURS, dtype=np.int8)
    names[colours[np.argsort(first)]] = np.arange(len(colours))
    renamed: bytes = names[cells].tobytes()
    return repr([grid.shape for grid in grids]).encode() + renamed


def _fingerprint(pair: Pair) -> Fingerprint:
    """Cheap and equal for equal canonical pairs, so that most pairs need no canonical form."""
    return tuple(
        (tuple(sorted(grid.shape)), tuple(sorted(Counter(grid.ravel().tolist()).values()))) for grid in _sides(pair)
    )


def _sides(pair: Pair) -> list[Grid]:
    return [pair.input] if pair.output is None else [pair.input, pair.output]
