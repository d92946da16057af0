"""The engine of micro-step models: macro steps over merged segments, micro steps while the decoder is confident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.engines.base import Completion, Drafts, Found, Nlls, check_prompts
from arc_kaggle.errors import EngineError
from arc_kaggle.micro.network import MicroLM, Places, Segments
from arc_kaggle.micro.segmentation import cut, uncertainty
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclass(slots=True)
class StepCounts:
    """What answers took: prompts' tokens and macro positions, answers' tokens, macro steps and micro steps a row."""

    prompt_tokens: int = 0
    prompt_positions: int = 0
    tokens: int = 0
    macro_steps: int = 0
    micro_steps: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class MicroEngine:
    """Greedy and sampled completions and likelihoods. Searches, beams, drafts by name and adapters are not there."""

    model: LoadedModel
    rows_per_batch: int = 16
    counts: StepCounts = field(default_factory=StepCounts)

    @property
    def network(self) -> MicroLM:
        network: Any = self.model.network
        return network  # type: ignore[no-any-return]

    def generate(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        *,
        drafts: Drafts | None = None,
        decoding: Decoding = GREEDY,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """As every engine's; drafts change nothing, and are not made use of."""
        check_prompts(prompts)
        if decoding.beams > 1 or decoding.best_of > 1 or adapters is not None:
            raise EngineError("micro-step model: found beams, best_of or adapters, expected greedy or one sample")
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for first in range(0, len(order), self.rows_per_batch):
            rows = order[first : first + self.rows_per_batch]
            batch = _Batch(self, [prompts[i] for i in rows], [max_new_tokens[i] for i in rows], decoding)
            yield from zip(rows, batch.run(deadline), strict=True)

    def search(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: Sequence[int],
        deadline: Deadline,
        search: Search,
        *,
        drafts: Drafts | None = None,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Found]]:
        """Refused: what follows a prefix depends on how it was cut."""
        raise EngineError("micro-step model: found a search, expected greedy decoding or sampling")

    @torch.inference_mode()
    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        """One candidate after the other, cut as the reference cuts it."""
        check_prompts(prompts)
        for i, (prompt, own) in enumerate(zip(prompts, candidates, strict=True)):
            nlls = [np.nan if deadline.passed else -self.log_probs(prompt, each).sum().item() for each in own]
            yield i, np.array(nlls)

    @torch.inference_mode()
    def log_probs(self, prompt: TokenIds, completion: TokenIds, starts: Sequence[bool] | None = None) -> Tensor:
        """Log-probabilities (T,) of a completion's tokens, teacher forced; `starts` says where its segments begin."""
        ids = torch.from_numpy(np.concatenate([prompt, completion]))[None].to(self.model.device)
        forced = torch.zeros_like(ids, dtype=torch.bool)
        forced[0, len(prompt)] = True
        config = self.network.micro_config
        found = cut(uncertainty(self.network.reference[0], ids, config), config, forced)
        if starts is not None:
            found[0, len(prompt) :] = torch.tensor(starts, device=ids.device)
        with self.model.computing():
            hidden = self.network.hidden_before(ids, Segments.of(found))[0, len(prompt) :]
            logits = self.network.get_output_embeddings()(hidden)
        values: Tensor = logits.float().log_softmax(-1).gather(-1, ids[0, len(prompt) :, None]).squeeze(-1)
        return values


class _Batch:
    """Rows that take their macro steps together; one that has ended takes part and counts no more."""

    def __init__(
        self, engine: MicroEngine, prompts: Sequence[TokenIds], limits: Sequence[int], decoding: Decoding
    ) -> None:
        self.engine, self.network, self.prompts, self.limits = engine, engine.network, prompts, limits
        self.temperature = decoding.temperature
        self.noise = [
            np.random.default_rng([decoding.seed, *prompt[-64:].tolist()]).random(max(1, limit))
            for prompt, limit in zip(prompts, limits, strict=True)
        ]
        self.ids: list[list[int]] = [[] for _ in prompts]
        self.log_probs: list[list[float]] = [[] for _ in prompts]
        self.device = engine.model.device
        if machine := self.network.grid_positions:
            walks = [list(machine.places(prompt.tolist())) for prompt in prompts]
            self.ahead = [walk[-1] for walk in walks]
            self.last = [(int(prompt[-1]), walk[-2]) for prompt, walk in zip(prompts, walks, strict=True)]
            self.walked = [0 for _ in prompts]

    @torch.inference_mode()
    def run(self, deadline: Deadline) -> list[Completion]:
        """Decode all rows until they have ended, have as many tokens as they may have, or the deadline comes."""
        with self.engine.model.computing():
            state, self.mask, self.cache = self._prefill()
            while any(map(self._goes_on, range(len(self.prompts)))) and not deadline.passed:
                merged = self._segment(state)
                self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
                state = self.network.macro(merged[:, None], self._places(), self.mask, self.cache)[:, 0]
        return [
            Completion(np.array(ids, dtype=np.int64), np.array(values, dtype=np.float32), self._ended(row))
            for row, (ids, values) in enumerate(zip(self.ids, self.log_probs, strict=True))
        ]

    def _ended(self, row: int) -> bool:
        return bool(self.ids[row]) and self.ids[row][-1] == self.engine.model.end_id

    def _goes_on(self, row: int) -> bool:
        return len(self.ids[row]) < self.limits[row] and not self._ended(row)

    def _prefill(self) -> tuple[Tensor, Tensor, DynamicCache]:
        """The state behind every prompt (rows, width), with macro positions padded on the left."""
        parts = []
        for prompt in self.prompts:
            ids = torch.from_numpy(prompt)[None].to(self.device)
            segments = self.network.segments_of(ids)
            merged = self.network.merged(self.network.get_input_embeddings()(ids), segments)[0]
            places = {name: values[0] for name, values in self.network.places(ids, segments).items()}
            parts.append({"merged": merged, "mask": torch.ones_like(segments.last[0]), **places})
            self.engine.counts.prompt_tokens += len(prompt)
            self.engine.counts.prompt_positions += len(merged)
        stacked = {name: padded_left([part[name] for part in parts]) for name in parts[0]}
        merged, mask = stacked.pop("merged"), stacked.pop("mask")
        from transformers import DynamicCache

        cache = DynamicCache(config=self.network.config)
        return self.network.macro(merged, stacked, mask, cache)[:, -1], mask, cache

    def _places(self) -> Places:
        """Where the tokens stand that every row ends with, (rows, 1)."""
        machine = self.network.grid_positions
        if machine is None:
            ends = [len(prompt) + len(ids) - 1 for prompt, ids in zip(self.prompts, self.ids, strict=True)]
            return {"position_ids": torch.tensor(ends, device=self.device)[:, None]}
        for row, ids in enumerate(self.ids):
            for token in ids[self.walked[row] :]:
                self.last[row], self.ahead[row] = (token, self.ahead[row]), machine.advance(self.ahead[row], token)
            self.walked[row] = len(ids)
        tokens, places = (torch.tensor(each, device=self.device)[:, None] for each in zip(*self.last, strict=True))
        return {"input_ids": tokens, "position_ids": places}

    def _segment(self, state: Tensor) -> Tensor:
        """Write one segment of every row; returns its macro embedding (rows, width)."""
        network, config = self.network, self.network.micro_config
        embed, head = network.get_input_embeddings(), network.get_output_embeddings()
        open_rows = [self._goes_on(row) for row in range(len(self.prompts))]
        self.engine.counts.macro_steps += sum(open_rows)
        tokens = self._take(head(state), open_rows)
        written, lengths = [tokens], torch.ones(len(tokens), dtype=torch.long, device=self.device)
        while len(written) < config.most_tokens and config.stop < 1:
            open_rows = [is_open and self._goes_on(row) for row, is_open in enumerate(open_rows)]
            if not any(open_rows):
                break
            logits = head(network.micro(state, embed(torch.stack(written, dim=1)))[:, -1])
            self.engine.counts.micro_steps += sum(open_rows)
            sure = (logits.float().softmax(-1).amax(-1) > config.stop).tolist()
            open_rows = [is_open and certain for is_open, certain in zip(open_rows, sure, strict=True)]
            written.append(self._take(logits, open_rows))
            lengths += torch.tensor(open_rows, device=self.device)
        valid = torch.arange(len(written), device=self.device) < lengths[:, None]
        return network.merger(embed(torch.stack(written, dim=1)), valid)  # type: ignore[no-any-return]

    def _take(self, logits: Tensor, rows: Sequence[bool]) -> Tensor:
        """The next token of every row (rows,), which is kept for those that are open."""
        log_probs = logits.float().log_softmax(-1)
        if self.temperature:
            shares = (log_probs.double() / self.temperature).softmax(-1).cumsum(-1)
            noise = [
                float(noise[min(len(ids), len(noise) - 1)]) for noise, ids in zip(self.noise, self.ids, strict=True)
            ]
            at = torch.tensor(noise, dtype=shares.dtype, device=self.device)[:, None] * shares[:, -1:]
            tokens = torch.searchsorted(shares, at, right=True).clamp(max=shares.shape[-1] - 1).squeeze(-1)
        else:
            tokens = log_probs.argmax(-1)
        values = log_probs.gather(-1, tokens[:, None]).squeeze(-1).tolist()
        for row, (token, value, is_open) in enumerate(zip(tokens.tolist(), values, rows, strict=True)):
            if is_open:
                self.ids[row].append(token)
                self.log_probs[row].append(value)
                self.engine.counts.tokens += 1
        return tokens


def padded_left(rows: Sequence[Tensor]) -> Tensor:
    """Rows (time, ...) of different lengths as one tensor (rows, time, ...), with zeros before the shorter ones."""
    found = rows[0].new_zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]))
    for row, values in enumerate(rows):
        found[row, -len(values) :] = values
    return found
