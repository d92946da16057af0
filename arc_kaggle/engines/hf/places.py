"""Places of tokens in a tree: a network that is told where each token stands is told it for every branch by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.text.grid_positions import START, GridPositions, Place
from arc_kaggle.text.tokens import TokenIds

Slots = NDArray[np.int64]


class Places:
    """For every slot of a batch the place of the token that would follow the one in it."""

    def __init__(self, machine: GridPositions, n_rows: int, n_slots: int) -> None:
        self.machine = machine
        self.behind = np.zeros((n_rows, n_slots, len(START)), dtype=np.int64)

    @classmethod
    def for_network(cls, network: Any, n_rows: int, n_slots: int) -> Places | None:
        """None for a network whose positions are the numbers of its tokens."""
        machine = getattr(network.config, "positions", None)
        return None if machine is None else cls(machine, n_rows, n_slots)

    def put(self, row: int, ids: TokenIds, slots: Slots, parent: int) -> NDArray[np.int64]:
        """The places (n, 3) of tokens that go into these slots, one behind the other, after the one in slot `parent`.

        With a `parent` below 0 they begin a sequence.
        """
        start = START if parent < 0 else Place(*self.behind[row, parent].tolist())
        places = np.array(list(self.machine.places(ids.tolist(), start)))  # (n + 1, 3)
        self.behind[row, slots] = places[1:]
        return places[:-1]

    def move(self, sources: Slots, low: int) -> None:
        """Slot `low` + i of a row becomes what slot `sources[row, i]` was, (rows, slots)."""
        moved = np.take_along_axis(self.behind, sources[:, :, None], axis=1)
        self.behind[:, low : low + sources.shape[1]] = moved

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.behind = self.behind[list(rows)]
