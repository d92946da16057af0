"""Execution: prompts, then spans of tokens behind them, go through the network; logits come where they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.budget import Deadline
from arc_kaggle.engines.cache import SlotCache, Slots
from arc_kaggle.model import LoadedModel
from arc_kaggle.optim import padded_length
from arc_kaggle.tokens import TokenIds

SLOT_STEP = 64
"""A forward looks at a multiple of so many slots: few shapes."""
PIECE = 2**19
"""Logits that are looked at together."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
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

    def prefill(self, prompts: Sequence[TokenIds], bucket: int, max_tokens: int, deadline: Deadline) -> None:
        """Fill the slots of all prompts but their last tokens, prompts of like length together; stop at the deadline.

        They are padded on the right: position and slot are one, and the causal mask hides the padding.
        """
        order = [row for row in np.argsort([len(prompt) for prompt in prompts]).tolist() if len(prompts[row]) > 1]
        while order and not deadline.passed:
            length = padded_length(len(prompts[order[-1]]) - 1, bucket)
            n_rows = max(1, max_tokens // length)
            self._prefill(order[-n_rows:], prompts, length)
            del order[-n_rows:]

    def _prefill(self, rows: Sequence[int], prompts: Sequence[TokenIds], length: int) -> None:
        ids = np.full((len(rows), length), self.model.pad_id)
        for i, row in enumerate(rows):
            ids[i, : len(prompts[row]) - 1] = prompts[row][:-1]
        slots = np.minimum(np.arange(length), self.memory.target.n_slots)[None]
        positions = np.minimum(np.arange(length), len(prompts[rows[-1]]) - 2)[None]
        self._run(np.array(rows), ids, positions, slots, None)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.memory.keep(rows)
        self.adapters = None if self.adapters is None else [self.adapters[row] for row in rows]

    @torch.inference_mode()
    def feed(self, spans: Sequence[Span], width: int) -> Tensor:
        """Logits (tokens, vocab) after each token of the spans, which come row by row.

        Every row is given `width` tokens, those that it does not need being padding.
        """
        memory, n_slots = self.memory, self.memory.target.n_slots
        n_rows, n_looked_at = len(memory.starts), min(padded_length(int(memory.used.max()), SLOT_STEP), n_slots)
        ids = np.full((n_rows, width), self.model.pad_id)
        positions, slots = np.zeros_like(ids), np.full_like(ids, n_slots)
        mask = np.zeros((n_rows, width, n_looked_at), dtype=np.bool_)
        filled = [0] * n_rows
        for span in spans:
            row, n_tokens = span.row, len(span.ids)
            here = slice(filled[row], filled[row] + n_tokens)
            filled[row] += n_tokens
            ids[row, here], slots[row, here] = span.ids, span.slots
            positions[row, here] = memory.starts[row] + len(span.ancestors) + np.arange(n_tokens)
            mask[row, here, : memory.starts[row]] = True
            mask[row, here, span.ancestors] = True
            mask[row, here, span.slots[0] : span.slots[-1] + 1] = np.tri(n_tokens, dtype=np.bool_)
        padding = slots == n_slots
        mask[padding, 0] = True  # attention to nothing may be NaN, and NaN in the cache would spread
        wanted = torch.from_numpy(~padding).to(self.model.device)
        with _head_at(self.model.network, wanted):
            return self._run(np.arange(n_rows), ids, positions, slots, mask)

    @torch.inference_mode()
    def _run(
        self, rows: Slots, ids: TokenIds, positions: Slots, slots: Slots, mask: NDArray[np.bool_] | None
    ) -> Tensor:
        """Logits, of the last tokens alone where there is no mask. `rows` (rows,), the others (rows or 1, time)."""
        network: Any = self.model.network
        target, device = self.memory.target, self.model.device
        target.rows, target.slots = torch.from_numpy(rows)[:, None].to(device), torch.from_numpy(slots).to(device)
        target.n_looked_at = 0 if mask is None else mask.shape[-1]
        options = {} if self.adapters is None else {"adapter_names": [self.adapters[row] for row in rows]}
        with self.model.computing():
            output = network(
                input_ids=torch.from_numpy(ids).to(device),
                position_ids=torch.from_numpy(positions).to(device),
                attention_mask=None if mask is None else self._mask(torch.from_numpy(mask).to(device)),
                past_key_values=self.memory.cache,
                use_cache=True,
                logits_to_keep=1 if mask is None else 0,
                **options,
            )
        logits: Tensor = output.logits
        return logits

    def _mask(self, mask: Tensor) -> Tensor:
        """(rows, time, slots) as this network's attention wants it: (rows, 1, time, slots), boolean or to be added."""
        network: Any = self.model.network
        if network.config.get_text_config()._attn_implementation == "sdpa":
            return mask[:, None]
        least = torch.finfo(network.dtype).min
        return torch.zeros(mask.shape, dtype=network.dtype, device=mask.device).masked_fill(~mask, least)[:, None]


@contextmanager
def _head_at(network: Any, wanted: Tensor) -> Iterator[None]:
    """Within it the head is given the hidden states (tokens, width) of some places (rows, time) alone."""
    hook = network.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0][wanted],))
    try:
        yield
    finally:
        hook.remove()


def log_z(logits: Tensor) -> Tensor:
    """What has to be taken from logits (tokens, vocab) to make them log-probabilities, (tokens,), in fp32 at least.

    It is reckoned in pieces that stay in a CPU's cache: on a whole batch it would take three times as long.
    """
    pieces = torch.split(logits, max(1, PIECE // logits.shape[-1]))
    return torch.cat([precise(piece).logsumexp(dim=-1) for piece in pieces])


def precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
