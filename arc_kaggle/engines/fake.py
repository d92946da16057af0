"""An engine without a model, for tests of everything around one. It passes the contract tests of the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.budget import Deadline
from arc_kaggle.engines.base import Completion, check_prompts
from arc_kaggle.prompt import PromptFormat
from arc_kaggle.tokens import TokenIds


@dataclass(frozen=True, slots=True)
class EchoEngine:
    """Answers with what stands between the last `open_id` and the last token of the prompt: the test input."""

    open_id: int
    end_id: int
    log_prob_per_token: float = -0.1

    def generate(
        self, prompts: Sequence[TokenIds], max_new_tokens: Sequence[int], deadline: Deadline
    ) -> Iterator[tuple[int, Completion]]:
        check_prompts(prompts)
        for position, (prompt, limit) in enumerate(zip(prompts, max_new_tokens, strict=True)):
            yield position, self._complete(prompt, 0 if deadline.passed else limit)

    def _complete(self, prompt: TokenIds, max_new_tokens: int) -> Completion:
        opened = np.flatnonzero(prompt == self.open_id)
        start = int(opened[-1]) + 1 if len(opened) else 0
        answer = np.append(prompt[start:-1], self.end_id)
        ids = answer[: min(max_new_tokens, np.argmax(answer == self.end_id) + 1)]
        ended = len(ids) > 0 and int(ids[-1]) == self.end_id
        return Completion(ids, np.full(len(ids), self.log_prob_per_token, dtype=np.float32), ended)


fake_format = PromptFormat(begin="^", input="I", output="O", end="$")


class SymbolTokenizer:
    """Every character is one token; needs no files."""

    symbols = "^$IO\n0123456789"

    def id_of(self, symbol: str) -> int:
        return self.symbols.index(symbol)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [self.id_of(symbol) for symbol in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.symbols[i] for i in token_ids)
