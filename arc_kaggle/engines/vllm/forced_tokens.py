"""Forced tokens in vLLM: a completion that is given, so that the log-probabilities of generation are those of a score.

vLLM has a way of its own to score a prompt, `prompt_logprobs`. With an adapter on the head its values are wrong, a
batch of several adapters kills it on a CPU, and it computes again what it has in its cache. What is generated is right
with every adapter, and what vLLM tells of it is the model's own, from before any token is forced.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality


class Forcing(LogitsProcessor):  # type: ignore[misc]
    """A logits processor by which a row of the batch can only take the next one of its forced tokens."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self.rows: dict[int, tuple[list[int], list[int]]] = {}
        """For each row of the batch its forced tokens and the tokens so far, to which vLLM appends."""

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow a change of the batch in the order that vLLM documents: rows removed, rows added, rows moved."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.rows.pop(row, None)
        for row, params, _, so_far in batch_update.added:
            self._set(row, (params.extra_args["forced"], so_far) if params.extra_args else None)
        for one, other, direction in batch_update.moved:
            first, second = self.rows.pop(one, None), self.rows.pop(other, None)
            self._set(other, first)
            self._set(one, second if direction == MoveDirectionality.SWAP else None)

    def _set(self, row: int, state: tuple[list[int], list[int]] | None) -> None:
        self.rows.pop(row, None)
        if state is not None:
            self.rows[row] = state

    def apply(self, logits: Tensor) -> Tensor:
        for row, (forced, so_far) in self.rows.items():
            token = forced[min(len(so_far), len(forced) - 1)]
            logits[row] = float("-inf")
            logits[row, token] = 0.0
        return logits
