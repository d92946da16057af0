"""What the engine is measured against: transformers' own generate, the published search, and full forwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.text.tokens import TokenIds


def padded(rows: Sequence[TokenIds], pad_id: int, left: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (rows, time), padded on one side."""
    length = max(map(len, rows))
    ids, mask = torch.full((len(rows), length), pad_id), torch.zeros((len(rows), length), dtype=torch.long)
    for i, row in enumerate(rows):
        here = slice(length - len(row), length) if left else slice(len(row))
        ids[i, here], mask[i, here] = torch.from_numpy(row), 1
    return ids, mask


@torch.inference_mode()
def generate(model: LoadedModel, prompts: Sequence[TokenIds], limits: Sequence[int], batch: int) -> list[TokenIds]:
    """Greedy answers by transformers' generate, prompts of like length `batch` at a time."""
    network: Any = model.network
    answers: dict[int, TokenIds] = {}
    order = np.argsort([len(prompt) for prompt in prompts]).tolist()
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        ids, mask = padded([prompts[row] for row in rows], model.pad_id, left=True)
        with model.computing():
            found = network.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max(limits[row] for row in rows),
                do_sample=False,
                eos_token_id=model.end_id,
                pad_token_id=model.pad_id,
            )
        for row, new in zip(rows, found[:, ids.shape[1] :].cpu().numpy(), strict=True):
            ends = np.flatnonzero(new == model.end_id)
            answers[row] = new[: ends[0] + 1 if len(ends) else limits[row]][: limits[row]]
    return [answers[row] for row in range(len(prompts))]


class PublishedSearch:
    """The threshold search of The ARChitects (2024), from its description: depth first on one cache, one row at a time.

    A guess is scored together with the prompt, so that following it costs no step; every other token costs one.
    """

    def __init__(self, model: LoadedModel, max_nll: float) -> None:
        self.model, self.max_nll = model, max_nll

    @torch.inference_mode()
    def run(self, prompt: TokenIds, limit: int, guess: TokenIds) -> dict[tuple[int, ...], float]:
        """NLL of every completion below the threshold."""
        self.cache, self.limit = DynamicCache(config=self.model.network.config), limit
        ends = np.flatnonzero(guess == self.model.end_id)
        guess = guess[: ends[0] if len(ends) else None][: limit - 1]
        self.prompt: list[int] = prompt.tolist()
        log_probs = self._forward([], np.concatenate([prompt, guess]), keep=len(guess) + 1)
        return dict(self._follow(len(prompt), (), 0.0, log_probs, guess.tolist()))

    def _forward(self, before: list[int], ids: TokenIds, keep: int) -> Tensor:
        """Log-probabilities (keep, vocab) after the last tokens of what is appended to the cache, behind `before`."""
        network: Any = self.model.network
        options: dict[str, Any] = {}
        if machine := getattr(network.config, "positions", None):  # GridLM is told where its tokens stand
            places = [*machine.places([*before, *ids.tolist()])][len(before) : -1]
            options["position_ids"] = torch.tensor([places], device=self.model.device)
        with self.model.computing():
            output = network(
                input_ids=torch.from_numpy(ids)[None].to(self.model.device),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=keep,
                **options,
            )
        log_probs: Tensor = output.logits[0].float().log_softmax(dim=-1).cpu()
        return log_probs

    def _follow(
        self, position: int, path: tuple[int, ...], nll: float, log_probs: Tensor, guess: list[int]
    ) -> Iterator[tuple[tuple[int, ...], float]]:
        """Completions that begin with `path`; `log_probs` are those after it and after each token of the guess."""
        nlls = nll - log_probs[0].double()
        likely = torch.nonzero(nlls < self.max_nll).squeeze(1).tolist()
        for token in sorted(likely, key=lambda token: (token not in guess[:1], float(nlls[token]))):
            if token == self.model.end_id:
                yield (*path, token), float(nlls[token])
            elif len(path) + 1 < self.limit:
                if guess[:1] == [token]:
                    after, rest = log_probs[1:], guess[1:]
                else:
                    if (extra := self.cache.get_seq_length() - position) > 0:
                        self.cache.crop(-extra)
                    after, rest = self._forward([*self.prompt, *path], np.array([token]), keep=1), []
                yield from self._follow(position + 1, (*path, token), float(nlls[token]), after, rest)


@torch.inference_mode()
def score(
    model: LoadedModel, prompts: Sequence[TokenIds], candidates: Sequence[Sequence[TokenIds]], batch: int
) -> list[list[float]]:
    """NLLs by one full forward for every prompt with every candidate, sequences of like length `batch` at a time."""
    network: Any = model.network
    pairs = [(i, j) for i, own in enumerate(candidates) for j in range(len(own))]
    pairs.sort(key=lambda pair: len(prompts[pair[0]]) + len(candidates[pair[0]][pair[1]]))
    nlls = [[0.0] * len(own) for own in candidates]
    for first in range(0, len(pairs), batch):
        rows = pairs[first : first + batch]
        ids, _ = padded([np.concatenate([prompts[i], candidates[i][j]]) for i, j in rows], model.pad_id, left=False)
        shortest = min(len(prompts[i]) for i, _ in rows)
        with model.computing():
            logits = network(
                input_ids=ids.to(model.device), use_cache=False, logits_to_keep=ids.shape[1] - shortest + 1
            ).logits
        targets = ids[:, shortest:].to(model.device)  # (rows, time)
        log_probs = logits[:, :-1].float().log_softmax(dim=-1).gather(2, targets[..., None]).squeeze(2).cpu()
        for row, (i, j) in enumerate(rows):
            begin = len(prompts[i]) - shortest
            nlls[i][j] = -float(log_probs[row, begin : begin + len(candidates[i][j])].double().sum())
    return nlls
