"""The engine of micro-step models: macro steps over merged segments, micro steps while the decoder is confident."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.engines.base import Completion, Drafts, Found, Nlls, check_prompts
from arc_kaggle.engines.hf.policy import noise_of
from arc_kaggle.errors import EngineError
from arc_kaggle.micro.network import MicroLM, Places
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
class Asked:
    """A prompt, and what is written behind it: `forced` tokens, else samples by their noise, else the likeliest."""

    prompt: TokenIds
    limit: int
    """Most tokens."""
    noise: NDArray[np.float64] | None = None
    """Uniform noise of every token, 0..1."""
    forced: TokenIds | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MicroEngine:
    """Greedy and sampled completions, and likelihoods. Searches, beams and adapters by name are not there."""

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
        _check_adapters(adapters)
        if decoding.beams > 1:
            raise EngineError(f"decoding: found {decoding.beams} beams for a micro-step model, expected 1")
        given: Drafts = [()] * len(prompts) if drafts is None else drafts
        limits = [limit for _, limit, _ in zip(prompts, max_new_tokens, given, strict=True)]
        order, best_of = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), decoding.best_of
        n_together = max(1, self.rows_per_batch // best_of)
        for first in range(0, len(order), n_together):
            rows = order[first : first + n_together]
            asked = [each for i in rows for each in _samples(prompts[i], limits[i], decoding)]
            found = _Batch(self, asked, decoding.temperature).run(deadline)
            for number, i in enumerate(rows):
                own = found[number * best_of : (number + 1) * best_of]
                yield i, max(own, key=lambda each: (each.ended, each.log_prob))

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

    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        """The candidates are cut as decoding would cut them, so that a decoded answer has the score it was found with.

        Those of one prompt share its prefill.
        """
        check_prompts(prompts)
        _check_adapters(adapters)
        for i, (prompt, own) in enumerate(zip(prompts, candidates, strict=True)):
            nlls: list[float] = []
            for first in range(0, len(own), self.rows_per_batch):
                asked = [Asked(prompt, len(ids), forced=ids) for ids in own[first : first + self.rows_per_batch]]
                for row, found in zip(asked, _Batch(self, asked).run(deadline), strict=True):
                    nlls.append(-found.log_prob if len(found.ids) == row.limit else np.nan)
            yield i, np.array(nlls, dtype=np.float64)


def _check_adapters(adapters: Sequence[str] | None) -> None:
    if adapters is not None:
        raise EngineError(f"adapters: found {sorted(set(adapters))} for a micro-step model, expected none")


def _samples(prompt: TokenIds, limit: int, decoding: Decoding) -> Iterator[Asked]:
    """As many as one completion is chosen from."""
    for chain in range(decoding.best_of):
        noise = noise_of(decoding.seed, chain, prompt, limit) if decoding.temperature else None
        yield Asked(prompt, limit, noise)


class _Batch:
    """Rows that take their macro steps together; one that has ended takes part and counts no more.

    Either all rows are forced, or none; at temperature 0 the likeliest token is written.
    """

    mask: Tensor
    """Macro positions that there are, (rows, positions), from the prefill on; those before a shorter prompt are not."""
    cache: DynamicCache

    def __init__(self, engine: MicroEngine, asked: Sequence[Asked], temperature: float = 0.0) -> None:
        self.engine, self.network, self.asked, self.temperature = engine, engine.network, asked, temperature
        self.ids: list[list[int]] = [[] for _ in asked]
        self.log_probs: list[list[float]] = [[] for _ in asked]
        self.device = engine.model.device
        if machine := self.network.grid_positions:
            walks = [list(machine.places(row.prompt.tolist())) for row in asked]
            self.ahead = [walk[-1] for walk in walks]
            self.last = [(int(row.prompt[-1]), walk[-2]) for row, walk in zip(asked, walks, strict=True)]
            self.walked = [0 for _ in asked]

    @torch.inference_mode()
    def run(self, deadline: Deadline) -> list[Completion]:
        """Decode all rows until they have ended, have as many tokens as they may have, or the deadline comes."""
        with self.engine.model.computing():
            state = self._prefill(deadline)
            while state is not None and any(map(self._goes_on, range(len(self.asked)))) and not deadline.passed:
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
        is_forced = self.asked[row].forced is not None
        return len(self.ids[row]) < self.asked[row].limit and (is_forced or not self._ended(row))

    def _prefill(self, deadline: Deadline) -> Tensor | None:
        """The state behind every prompt (rows, width), with macro positions padded on the left.

        Equal prompts are read once. None where the deadline comes before all are cut into segments.
        """
        prompts = {row.prompt.tobytes(): row.prompt for row in self.asked}
        parts = [self._part(prompt) for prompt in prompts.values() if not deadline.passed]
        if len(parts) < len(prompts):
            return None
        stacked = {name: padded_left([part[name] for part in parts]) for name in parts[0]}
        merged, mask = stacked.pop("merged"), stacked.pop("mask")
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.network.config)
        states = self.network.macro(merged, stacked, mask, self.cache)[:, -1]
        numbers = {key: number for number, key in enumerate(prompts)}
        which = torch.tensor([numbers[row.prompt.tobytes()] for row in self.asked], device=self.device)
        self.cache.batch_select_indices(which)
        self.mask = mask[which]
        return states[which]

    def _part(self, prompt: TokenIds) -> dict[str, Tensor]:
        """The macro positions of a prompt: embeddings, a mask of ones, and where they stand."""
        ids = torch.from_numpy(prompt)[None].to(self.device)
        segments = self.network.segments_of(ids, [ids[0, -1:]])
        merged = self.network.merged(self.network.get_input_embeddings()(ids), segments)[0]
        self.engine.counts.prompt_tokens += len(prompt)
        self.engine.counts.prompt_positions += len(merged)
        places = {name: values[0] for name, values in self.network.places(ids, segments).items()}
        return {"merged": merged, "mask": torch.ones_like(segments.last[0]), **places}

    def _places(self) -> Places:
        """Where the tokens stand that every row ends with, (rows, 1)."""
        machine = self.network.grid_positions
        if machine is None:
            ends = [len(row.prompt) + len(ids) - 1 for row, ids in zip(self.asked, self.ids, strict=True)]
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
        open_rows = [self._goes_on(row) for row in range(len(self.asked))]
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
        tokens = self._chosen(log_probs)
        values = log_probs.gather(-1, tokens[:, None]).squeeze(-1).tolist()
        for row, (token, value, is_open) in enumerate(zip(tokens.tolist(), values, rows, strict=True)):
            if is_open:
                self.ids[row].append(token)
                self.log_probs[row].append(value)
                self.engine.counts.tokens += 1
        return tokens

    def _chosen(self, log_probs: Tensor) -> Tensor:
        """The token (rows,) that is written behind log-probabilities (rows, vocab); anything where a row is through."""
        if self.asked[0].forced is not None:
            ids = [0 if row.forced is None or n >= len(row.forced) else int(row.forced[n]) for row, n in self._written]
            return torch.tensor(ids, device=self.device)
        if not self.temperature:
            return log_probs.argmax(-1)
        noise = [0.0 if row.noise is None or n >= len(row.noise) else row.noise[n] for row, n in self._written]
        shares = (log_probs.double() / self.temperature).softmax(-1).cumsum(-1)
        at = torch.tensor(noise, dtype=shares.dtype, device=self.device)[:, None] * shares[:, -1:]
        return torch.searchsorted(shares, at, right=True).clamp(max=shares.shape[-1] - 1).squeeze(-1)

    @property
    def _written(self) -> Iterator[tuple[Asked, int]]:
        """Every row, with the number of its tokens."""
        return zip(self.asked, map(len, self.ids), strict=True)


def padded_left(rows: Sequence[Tensor]) -> Tensor:
    """Rows (time, ...) of different lengths as one tensor (rows, time, ...), with zeros before the shorter ones."""
    found = rows[0].new_zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]))
    for row, values in enumerate(rows):
        found[row, -len(values) :] = values
    return found
