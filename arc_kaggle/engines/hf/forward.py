"""Forward passes: prefill of prompts, then tree attention over spans of tokens behind them; logits where wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.engines.hf.cache import SlotCache, Slots
from arc_kaggle.engines.hf.grouped_attention import in_groups
from arc_kaggle.engines.hf.prefixes import Prefix, prefix_pays, waves
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.threads import follow_load
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import TokenIds

SLOT_STEP = 64
"""A forward looks at a multiple of so many slots: few shapes."""
PIECE = 2**19
"""Logits that are looked at together."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotRange:
    """Tokens in one row of a batch, one behind the other: ids (n,), and the slots (n,) of their keys and values."""

    row: int
    ids: TokenIds
    slots: Slots
    ancestors: Slots
    """Slots of the tokens between the row's prompt and the span, (m,); they may be of the same forward."""


@dataclass(slots=True, eq=False)
class Forward:
    """A network with the cache of one batch, and the adapter of each of its rows where they have some."""

    model: LoadedModel
    memory: SlotCache
    adapters: list[str] | None = None
    compiled: Callable[..., Any] | None = None
    """The network, compiled for what is fed behind the prompts; all of it is its own where None."""

    def prefill(self, prompts: Sequence[TokenIds], bucket: int, max_tokens: int, deadline: Deadline) -> None:
        """Fill the slots of all prompts but their last tokens; stop at the deadline.

        What prompts begin with alike is computed once. Prompts of like length go together, padded on the right:
        position and slot are one, and where nothing is shared the causal mask hides the padding.
        """
        texts = [prompt[:-1] for prompt in prompts]
        for wave in waves(texts, self._prefix_pays):
            for prefix in wave:
                self.memory.copy(prefix.row, prefix.source, prefix.n_tokens)
            left = [each for each in wave if len(texts[each.row]) > each.n_tokens]
            left.sort(key=lambda each: len(texts[each.row]) - each.n_tokens)
            while left and not deadline.passed:
                length = round_up(len(texts[left[-1].row]) - left[-1].n_tokens, bucket)
                n_rows = max(1, max_tokens // length)
                self._prefill(left[-n_rows:], texts, length)
                del left[-n_rows:]
            if left:  # nothing that a later wave would copy is sure to be there
                return

    def _prefix_pays(self, n_shared: int, n_tokens: int) -> bool:
        """Keys and values of two adapters differ."""
        same = self.adapters is None or len(set(self.adapters)) == 1
        return same and prefix_pays(n_shared, n_tokens, self.model.network.config.get_text_config().hidden_size)

    def _prefill(self, prefixes: Sequence[Prefix], texts: Sequence[TokenIds], length: int) -> None:
        """What comes behind the prefixes, `length` tokens a row with their padding."""
        rows = np.array([each.row for each in prefixes])
        firsts, ends = np.array([[each.n_tokens, len(texts[each.row])] for each in prefixes]).T[..., None]
        slots = firsts + np.arange(length)  # (rows, length)
        padding = slots >= ends
        ids = np.full(slots.shape, self.model.pad_id)
        ids[~padding] = np.concatenate([texts[each.row][each.n_tokens :] for each in prefixes])
        positions = np.minimum(slots, ends - 1)
        if places := self.memory.places:
            positions = np.zeros((*ids.shape, 3), dtype=np.int64)
            for i, each in enumerate(prefixes):
                n_tokens, own = len(texts[each.row]) - each.n_tokens, texts[each.row][each.n_tokens :]
                at = each.n_tokens + np.arange(n_tokens)
                positions[i, :n_tokens] = places.put(each.row, own, at, parent=each.n_tokens - 1)
        mask = None
        if firsts.any():
            n_looked_at = min(round_up(int(ends.max()), SLOT_STEP), self.memory.target.n_slots)
            mask = np.arange(n_looked_at) <= slots[..., None]
        slots[padding] = self.memory.target.n_slots
        self._run(rows, ids, positions, slots, mask, prefill=True)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.memory.keep(rows)
        self.adapters = None if self.adapters is None else [self.adapters[row] for row in rows]

    @torch.inference_mode()
    def feed(self, spans: Sequence[SlotRange], width: int) -> Tensor:
        """Log-probabilities (tokens, vocab) after each token of the spans; the spans as `logits` takes them."""
        return log_softmax(self.logits(spans, width))

    @torch.inference_mode()
    def logits(self, spans: Sequence[SlotRange], width: int) -> Tensor:
        """Logits (tokens, vocab) after each token of the spans, which come row by row.

        Every row is given `width` tokens, those that it does not need being padding.
        """
        memory, n_slots = self.memory, self.memory.target.n_slots
        n_rows, n_looked_at = len(memory.starts), min(round_up(int(memory.used.max()), SLOT_STEP), n_slots)
        ids = np.full((n_rows, width), self.model.pad_id)
        slots = np.full_like(ids, n_slots)
        positions = np.zeros((*ids.shape, 3) if memory.places else ids.shape, dtype=np.int64)
        seen = np.arange(n_looked_at) < memory.starts[:, None]  # (rows, slots): those of the prompts
        mask = np.repeat(seen[:, None], width, axis=1)
        filled = [0] * n_rows
        for span in spans:
            row, n_tokens, first = span.row, len(span.ids), filled[span.row]
            filled[row] = end = first + n_tokens
            ids[row, first:end], slots[row, first:end] = span.ids, span.slots
            positions[row, first:end] = self._positions_of(span)
            mask[row, first:end, span.ancestors] = True
            mask[row, first:end, span.slots[0] : span.slots[-1] + 1] = np.tri(n_tokens, dtype=np.bool_)
        padding = slots == n_slots
        mask[padding, 0] = True  # attention to nothing may be NaN, and NaN in the cache would spread
        wanted = torch.from_numpy(np.flatnonzero(~padding)).to(self.model.device)
        if self._steps is not None or self.adapters is not None:
            # a hook on the head would compile anew for every step, and adapters on it go by row
            return self._run(np.arange(n_rows), ids, positions, slots, mask).flatten(0, 1)[wanted]
        with _head_at(self.model.network, wanted):
            return self._run(np.arange(n_rows), ids, positions, slots, mask)

    def _positions_of(self, span: SlotRange) -> NDArray[np.int64]:
        """How many tokens are before each of a span, (n,); or their places (n, 3), for a network that is told them."""
        start = int(self.memory.starts[span.row])
        if places := self.memory.places:
            parent = int(span.ancestors[-1]) if len(span.ancestors) else start - 1
            return places.put(span.row, span.ids, span.slots, parent)
        return start + len(span.ancestors) + np.arange(len(span.ids))

    @property
    def _steps(self) -> Callable[..., Any] | None:
        """The compiled network, where it can take these rows: adapters by name are hooks, new ones every time."""
        return self.compiled if self.adapters is None else None

    @torch.inference_mode()
    def _run(
        self,
        rows: Slots,
        ids: TokenIds,
        positions: Slots,
        slots: Slots,
        mask: NDArray[np.bool_] | None,
        prefill: bool = False,
    ) -> Tensor:
        """Logits, none of a prefill. `rows` (rows,), the others (rows, time), places (rows, time, 3)."""
        follow_load(self.model.device)
        network: Any = self.model.network if prefill or self._steps is None else self._steps
        target, device = self.memory.target, self.model.device
        target.rows, target.slots = torch.from_numpy(rows)[:, None].to(device), torch.from_numpy(slots).to(device)
        target.n_looked_at, target.some_rows = 0 if mask is None else mask.shape[-1], prefill
        options: dict[str, Any] = {"logits_to_keep": torch.arange(0, device=device)} if prefill else {}
        if self.adapters is not None:
            options["adapter_names"] = [self.adapters[row] for row in rows]
        with self.model.computing(), in_groups(self.model.network):
            output = network(
                input_ids=torch.from_numpy(ids).to(device),
                position_ids=torch.from_numpy(positions).to(device),
                attention_mask=None if mask is None else self._mask(torch.from_numpy(mask).to(device)),
                past_key_values=self.memory.cache,
                use_cache=True,
                **options,
            )
        logits: Tensor = output.logits
        return logits

    def _mask(self, mask: Tensor) -> Tensor:
        """(rows, time, slots) as something to be added, once for all layers: (rows, 1, time, slots)."""
        dtype = self.model.autocast or self.model.network.dtype
        values = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return values.masked_fill_(~mask, torch.finfo(dtype).min)[:, None]


def compiled(model: LoadedModel) -> Callable[..., Any]:
    """The network, compiled when it is first called: for shapes that vary, and on a GPU into CUDA graphs."""
    mode = "reduce-overhead" if model.device.type == "cuda" else None
    network: Callable[..., Any] = torch.compile(model.network, dynamic=True, mode=mode)
    return network


@contextmanager
def _head_at(network: Any, wanted: Tensor) -> Iterator[None]:
    """Within it the head is given the hidden states (tokens, width) of some places of (rows * time) alone."""
    hook = network.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: (given[0].flatten(0, 1).index_select(0, wanted),)
    )
    try:
        yield
    finally:
        hook.remove()


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities (tokens, vocab), in fp32 at least. In pieces that stay in a CPU's cache, which is faster."""
    return torch.cat([piece.log_softmax(dim=-1) for piece in _pieces(logits)])


def normalizers(logits: Tensor) -> Tensor:
    """What logits (tokens, vocab) exceed log-probabilities by, (tokens,): for where few of them are wanted."""
    return torch.cat([piece.logsumexp(dim=-1) for piece in _pieces(logits)])


def _pieces(logits: Tensor) -> Iterator[Tensor]:
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return (piece.to(dtype) for piece in torch.split(logits, max(1, PIECE // logits.shape[-1])))
