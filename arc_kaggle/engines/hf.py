"""Generation by a Hugging Face causal LM: batched, greedy, with log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arc_kaggle.budget import Deadline
from arc_kaggle.engines.base import Completion, check_prompts
from arc_kaggle.model import LoadedModel
from arc_kaggle.optim import padded_length
from arc_kaggle.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class HFEngine:
    """Prompts of like length share a batch, padded on the left to one bucketed length.

    `tokens_per_batch` bounds the key-value slots of a batch, prompt and answer together; `bucket` is the step of
    prompt lengths: few lengths, few compiled kernels.
    """

    model: LoadedModel
    tokens_per_batch: int = 65536
    bucket: int = 64

    def generate(
        self, prompts: Sequence[TokenIds], max_new_tokens: Sequence[int], deadline: Deadline
    ) -> Iterator[tuple[int, Completion]]:
        check_prompts(prompts)
        rows = [_Row(i, prompt, limit) for i, (prompt, limit) in enumerate(zip(prompts, max_new_tokens, strict=True))]
        for batch in self._batches(rows):
            yield from self._generate_batch(batch, deadline)

    def _batches(self, rows: Sequence[_Row]) -> list[list[_Row]]:
        """Rows by length of prompt, grouped so that a batch stays within `tokens_per_batch`."""
        batches: list[list[_Row]] = []
        longest_answer = 0
        for row in sorted(rows, key=lambda row: len(row.prompt)):
            longest_answer = max(longest_answer, row.limit)
            slots = padded_length(len(row.prompt), self.bucket) + longest_answer
            if not batches or (len(batches[-1]) + 1) * slots > self.tokens_per_batch:
                batches.append([])
                longest_answer = row.limit
            batches[-1].append(row)
        return batches

    def _generate_batch(self, rows: list[_Row], deadline: Deadline) -> Iterator[tuple[int, Completion]]:
        state: _Decoding | None = None
        while True:
            for row in rows:
                if row.waiting and (row.through or deadline.passed):
                    row.waiting = False
                    yield row.position, row.completion()
            waiting = [i for i, row in enumerate(rows) if row.waiting]
            if not waiting:
                return
            if state is None:
                state = _Decoding(self.model, [row.prompt for row in rows], self.bucket)
            elif 2 * len(waiting) <= len(rows):  # rows that are through ride along until they are half of the batch
                rows = [rows[i] for i in waiting]
                state.keep(waiting)
                state.advance()
            else:
                state.advance()
            for row, token, log_prob in zip(rows, *state.choose(), strict=True):
                row.append(token, log_prob, self.model.end_id)


@dataclass(slots=True)
class _Row:
    """One prompt, the most tokens it may get, and what it has got so far."""

    position: int
    prompt: TokenIds
    limit: int
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ended: bool = False
    waiting: bool = True

    @property
    def through(self) -> bool:
        return self.ended or len(self.ids) >= self.limit

    def append(self, token: int, log_prob: float, end_id: int) -> None:
        if not self.through:
            self.ids.append(token)
            self.log_probs.append(log_prob)
            self.ended = token == end_id

    def completion(self) -> Completion:
        return Completion(np.array(self.ids, dtype=np.int64), np.array(self.log_probs, dtype=np.float32), self.ended)


class _Decoding:
    """The key-value cache of a batch, its mask and the logits of the next token of every row."""

    @torch.inference_mode()
    def __init__(self, model: LoadedModel, prompts: Sequence[TokenIds], bucket: int) -> None:
        self.network: Any = model.network
        length = padded_length(max(map(len, prompts)), bucket)
        ids = torch.full((len(prompts), length), model.pad_id)  # (batch, time)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = torch.from_numpy(prompt)
            mask[row, length - len(prompt) :] = 1
        self.mask = mask.to(model.device)
        self.cache: Any = None
        self.tokens = ids[:, -1]  # (batch,)
        # a prompt's first token is at position 0, however much padding stands before it
        self._forward(ids.to(model.device), (self.mask.cumsum(dim=1) - 1).clamp(min=0))

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        output = self.network(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        self.logits = output.logits[:, -1].float()  # (batch, vocab)

    @torch.inference_mode()
    def choose(self) -> tuple[list[int], list[float]]:
        """The likeliest next token of every row and its log-probability in nats."""
        log_probs, self.tokens = self.logits.log_softmax(dim=-1).max(dim=-1)  # (batch,)
        return self.tokens.tolist(), log_probs.tolist()

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        index = torch.tensor(rows, device=self.mask.device)
        self.mask, self.tokens = self.mask[index], self.tokens[index]
        self.cache.batch_select_indices(index)

    @torch.inference_mode()
    def advance(self) -> None:
        """Feed every row the token that was chosen."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self._forward(self.tokens[:, None], self.mask.sum(dim=1, keepdim=True) - 1)
