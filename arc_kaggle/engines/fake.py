"""An engine without a model, for tests of everything around one. It passes the contract tests of the real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.config.answer import GREEDY, Decoding, Search
from arc_kaggle.engines.base import Completion, Drafts, Found, Nlls, check_prompts
from arc_kaggle.errors import EngineError
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.encoders import MinimalGridEncoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class EchoEngine:
    """Answers with what stands between the last `open_id` and the last token of the prompt: the test input."""

    open_id: int
    end_id: int
    log_prob_per_token: float = -0.1
    """Of a token that it would say, in nats."""
    log_prob_of_others: float = -100.0
    """Of any other: too unlikely for every search."""

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
        _check(prompts, adapters, decoding)
        for position, (prompt, limit, _) in enumerate(zip(prompts, max_new_tokens, drafts or prompts, strict=True)):
            yield position, self._complete(prompt, 0 if deadline.passed else limit)

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
        _check(prompts, adapters)
        n_likely = math.ceil(search.max_nll / -self.log_prob_per_token) - 1
        for position, (prompt, limit, _) in enumerate(zip(prompts, max_new_tokens, drafts or prompts, strict=True)):
            if deadline.passed:
                yield position, Found((), 0, 0, "deadline")
                continue
            answer = self._complete(prompt, limit)
            n_nodes = min(len(answer.ids), n_likely + 1)
            if n_nodes > search.max_nodes:
                yield position, Found((), search.max_nodes, 0, "nodes")
                continue
            is_likely = len(answer.ids) <= n_likely
            found = (answer,) if is_likely and answer.ended else ()
            yield position, Found(found, n_nodes, int(is_likely and not answer.ended))

    def score(
        self,
        prompts: Sequence[TokenIds],
        candidates: Sequence[Sequence[TokenIds]],
        deadline: Deadline,
        *,
        adapters: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Nlls]]:
        _check(prompts, adapters)
        for position, (prompt, of_prompt) in enumerate(zip(prompts, candidates, strict=True)):
            late = deadline.passed
            yield position, np.array([np.nan if late else self._nll(prompt, ids) for ids in of_prompt])

    def _complete(self, prompt: TokenIds, max_new_tokens: int) -> Completion:
        opened = np.flatnonzero(prompt == self.open_id)
        start = int(opened[-1]) + 1 if len(opened) else 0
        answer = np.append(prompt[start:-1], self.end_id)
        ids = answer[: min(max_new_tokens, np.argmax(answer == self.end_id) + 1)]
        ended = len(ids) > 0 and int(ids[-1]) == self.end_id
        return Completion(ids, np.full(len(ids), self.log_prob_per_token, dtype=np.float32), ended)

    def _nll(self, prompt: TokenIds, candidate: TokenIds) -> float:
        answer = self._complete(prompt, len(candidate)).ids
        n_right = np.argmin(np.append(answer == candidate[: len(answer)], False))
        return float(-n_right * self.log_prob_per_token - (len(candidate) - n_right) * self.log_prob_of_others)


def _check(prompts: Sequence[TokenIds], adapters: Sequence[str] | None, decoding: Decoding = GREEDY) -> None:
    """Raise EngineError for an empty prompt, and for what only a model can do."""
    check_prompts(prompts)
    if adapters is not None:
        raise EngineError(f"adapters: found {', '.join(sorted(set(adapters)))}, but the fake engine has no weights")
    if decoding != GREEDY:
        raise EngineError(f"decoding: found {decoding}, but the fake engine has one answer to a prompt")


class SymbolTokenizer:
    """Every character is one token; needs no files."""

    symbols = "^$IO\n0123456789"

    def id_of(self, symbol: str) -> int:
        return self.symbols.index(symbol)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [self.id_of(symbol) for symbol in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.symbols[i] for i in token_ids)


FAKE_FORMAT = PromptFormat(begin="^", input="I", output="O", end="$", verify="O", right="O", wrong="I")
FAKE_NOTATION = Notation(MinimalGridEncoder(), FAKE_FORMAT, SymbolTokenizer())
"""The notation of runs with EchoEngine."""
