"""The KV cache: keys and values of many rows in slots, each row with a tree of tokens behind its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.engines.hf.places import Places

Slots = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Target:
    """The slots that the next forward writes, rows (rows, 1) and slots (rows, time), and how many it attends to.

    Where that is 0, tokens look at those of the same forward alone. One slot behind all others takes padding.
    """

    n_rows: int
    n_slots: int
    dtype: torch.dtype | None
    """Type of keys and values; that of the hidden states where None."""
    rows: Tensor = field(default_factory=lambda: torch.zeros(0))
    slots: Tensor = field(default_factory=lambda: torch.zeros(0))
    n_looked_at: int = 0
    some_rows: bool = False
    """Whether the forward is of some rows, in any order, rather than of all."""


class SlotCache:
    """The slots of a batch: token i of a row's prompt lies in slot i, the tokens of its tree behind them."""

    def __init__(
        self,
        n_layers: int,
        lengths: Sequence[int],
        n_slots: int,
        dtype: torch.dtype | None,
        places: Places | None = None,
        stock: bool = True,
    ) -> None:
        """`stock` where the network is one of transformers, which asks a cache for more than to be updated."""
        self.starts: Slots = np.array(lengths)
        """Slots of each row's prompt, (rows,)."""
        self.used: Slots = self.starts.copy()
        """First free slot of each row, (rows,)."""
        self.target = Target(len(lengths), n_slots, dtype)
        self.layers = [SlotLayer(self.target) for _ in range(n_layers)]
        self.cache: Any = _stock_cache(self.layers) if stock else self
        self.places = places
        """Of a network that is told them."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """As the layer does; what a network alone asks of a cache."""
        return self.layers[layer_idx].update(key_states, value_states)

    @property
    def room(self) -> list[int]:
        """Free slots of each row."""
        free: list[int] = (self.target.n_slots - self.used).tolist()
        return free

    def reserve(self, row: int, n_tokens: int) -> Slots:
        self.used[row] += n_tokens
        return np.arange(self.used[row] - n_tokens, self.used[row])

    def release(self, row: int, held: Sequence[Slots]) -> None:
        """Free the slots behind the last one that is held; along a branch slots rise."""
        self.used[row] = max([int(self.starts[row]), *(int(slots[-1]) + 1 for slots in held if len(slots))])

    def compact(self, held: Sequence[Sequence[Slots]]) -> list[Slots]:
        """Move what each row holds together, in its order. Returns for every row the new slot of each old one."""
        low, high = int(self.starts.min()), int(self.used.max())
        sources = np.tile(np.arange(low, high), (len(held), 1))  # (rows, high - low)
        moved = []
        for row, start in enumerate(self.starts.tolist()):
            kept = np.unique(np.concatenate([*held[row], np.arange(0)]))
            sources[row, start - low : start - low + len(kept)] = kept
            new = np.zeros(self.target.n_slots, dtype=np.int64)
            new[kept] = np.arange(start, start + len(kept))
            moved.append(new)
            self.used[row] = start + len(kept)
        if (sources != np.arange(low, high)).any():
            for layer in self.layers:
                layer.move(torch.from_numpy(sources), low)
            if self.places:
                self.places.move(sources, low)
        return moved

    def copy(self, row: int, source: int, n_slots: int) -> None:
        """The first slots of a row become those of another row."""
        if not n_slots:
            return
        for layer in self.layers:
            layer.copy(row, source, n_slots)
        if self.places:
            self.places.behind[row, :n_slots] = self.places.behind[source, :n_slots]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows; `rows` rise."""
        for layer in self.layers:
            layer.keep(rows, int(self.used.max()))
        if self.places:
            self.places.keep(rows)
        self.starts, self.used = self.starts[list(rows)], self.used[list(rows)]


def _stock_cache(layers: Sequence[SlotLayer]) -> Any:
    from transformers import Cache
    from transformers.cache_utils import CacheLayerMixin

    CacheLayerMixin.register(SlotLayer)
    return Cache(layers=list(layers))


class SlotLayer:
    """Keys and values of one layer, (rows, heads, slots, size) each; transformers finds in it all that it asks for."""

    is_sliding = is_compileable = is_croppable = False
    supports_early_init = True

    def __init__(self, target: Target) -> None:
        self.target, self.is_initialized = target, False
        self.keys = self.values = torch.zeros(0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = self._slots_for(key_states), self._slots_for(value_states)
        self.is_initialized = True

    def _slots_for(self, states: Tensor) -> Tensor:
        """Zeros, for what is masked out must at least be finite."""
        shape = (self.target.n_rows, states.shape[1], self.target.n_slots + 1, states.shape[3])
        return torch.zeros(shape, dtype=self.target.dtype or states.dtype, device=states.device)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the states (rows, heads, time, size) of what is fed; return those that it looks at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        target = self.target
        for store, states in ((self.keys, key_states), (self.values, value_states)):
            store.transpose(1, 2)[target.rows, target.slots] = states.transpose(1, 2).to(store.dtype)
        if not target.n_looked_at:
            return key_states, value_states
        rows = target.rows[:, 0] if target.some_rows else slice(None)
        return self.keys[rows, :, : target.n_looked_at], self.values[rows, :, : target.n_looked_at]

    @torch.inference_mode()
    def move(self, sources: Tensor, low: int) -> None:
        """Slot `low` + i of a row becomes what slot `sources[row, i]` was, (rows, slots)."""
        rows, sources = torch.arange(len(sources), device=self.keys.device)[:, None], sources.to(self.keys.device)
        for store in (self.keys, self.values):
            by_slot = store.transpose(1, 2)
            by_slot[:, low : low + sources.shape[1]] = by_slot[rows, sources]

    @torch.inference_mode()
    def copy(self, row: int, source: int, n_slots: int) -> None:
        for store in (self.keys, self.values):
            store[row, :, :n_slots] = store[source, :, :n_slots]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int], n_slots: int) -> None:
        """In place and row by row, so that there never is a second copy of them all."""
        for store in (self.keys, self.values):
            for to, row in enumerate(rows):
                if to != row:
                    store[to, :, :n_slots] = store[row, :, :n_slots]
        self.keys, self.values = self.keys[: len(rows)], self.values[: len(rows)]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Of a prefill; for anything else the mask is given."""
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.target.n_slots
