"""How prompts with completions are put to a model: as plain text or by its chat template, with examples before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.prompt_sets import PromptItem, Turn
from arc_kaggle.text.prompt_format import Prompt, Span
from arc_kaggle.text.tokens import Example, TokenIds, tokenize

BETWEEN = "\n\n"
"""What stands between the examples of a plain prompt."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Makes the prompts of items for one tokenizer; the same for training, answers and likelihoods."""

    tokenizer: Any
    chat: bool = False
    """Write prompts by the chat template, as the user's turn; items that are messages are written so anyway."""
    prefix: str = ""
    """Text in front of everything that the user says."""
    shots: tuple[PromptItem, ...] = ()
    """Examples in front of every prompt, with their completions."""

    def prompt(self, item: PromptItem) -> Prompt:
        """All that stands before the answer, with what is given of it."""
        return Prompt((Span(self._before(item) + item.given),))

    def answered(self, item: PromptItem, completion: str, everything: bool = False) -> Prompt:
        """A prompt and an answer to it with its end token, which is trained; with `everything` the prompt is, too."""
        before = self._before(item) + item.given
        return Prompt((Span(before, everything), Span(completion + self.end(item), True)))

    def ids(self, item: PromptItem) -> TokenIds:
        """Token ids (T,) of a prompt."""
        return tokenize(self.prompt(item), self.tokenizer).ids

    def answer_ids(self, item: PromptItem, completion: str) -> TokenIds:
        """Token ids (T,) of an answer, its end token among them."""
        ids = tokenize(Prompt((Span(completion + self.end(item)),)), self.tokenizer).ids
        return np.array(ids, dtype=np.int64)

    def example(self, item: PromptItem, everything: bool = False) -> Example:
        """Ids and labels (T,): of the completion and its end token, or with `everything` of the prompt as well."""
        return tokenize(self.answered(item, item.completion, everything), self.tokenizer)

    def end(self, item: PromptItem) -> str:
        """The text of the token that ends an answer: the chat template's, or eos. Raises PromptError without one."""
        if not self.is_chat(item):
            if self.tokenizer.eos_token is None:
                raise PromptError("tokenizer: found no eos token, expected one to end answers with")
            return str(self.tokenizer.eos_token)
        return self._cut(item)[1]

    def end_id(self, item: PromptItem) -> int:
        """The id of that token."""
        return int(self.tokenizer.convert_tokens_to_ids(self.end(item)))

    def is_chat(self, item: PromptItem) -> bool:
        return self.chat or item.is_chat

    def _before(self, item: PromptItem) -> str:
        if self.is_chat(item):
            return self._cut(item)[0]
        shown = [shot.question + shot.given + shot.completion for shot in self.shots]
        begin = str(self.tokenizer.bos_token) if _adds_bos(self.tokenizer) else ""
        return begin + self.prefix + BETWEEN.join([*shown, item.question])

    def _cut(self, item: PromptItem) -> tuple[str, str]:
        """(the text before an answer, the token behind it), by the template. Raises PromptError where it has no such.

        An answer in the middle of which the template's own words would stand is no completion of the text before it.
        """
        turns = self._turns(item)
        before = self._render(turns, opened=True)
        answer = (item.given + item.completion) or "answer"
        whole = self._render([*turns, ("assistant", answer)], opened=False)
        if not whole.startswith(before + answer):
            raise PromptError(
                f"chat template: item {item.id}: found {whole[len(before) :][:80]!r} behind the prompt, expected the "
                f"answer {answer[:80]!r}: it strips answers or adds words of its own"
            )
        after = whole[len(before + answer) :]
        ids = self.tokenizer.encode(after, add_special_tokens=False)
        end = str(self.tokenizer.decode(ids[:1])) if ids else ""
        if not end or not after.startswith(end) or ids[0] not in {*self.tokenizer.added_tokens_decoder}:
            raise PromptError(f"chat template: found {after[:40]!r} behind an answer, expected a token that ends it")
        return before, end

    def _turns(self, item: PromptItem) -> list[Turn]:
        shown = [t for shot in self.shots for t in (*shot.turns, ("assistant", shot.given + shot.completion))]
        turns = [*shown, *item.turns]
        first = next((i for i, (role, _) in enumerate(turns) if role == "user"), None)
        if self.prefix and first is not None:
            turns[first] = ("user", self.prefix + turns[first][1])
        return turns

    def _render(self, turns: Sequence[Turn], opened: bool) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise PromptError("tokenizer: found no chat template, expected one for messages; or leave out --chat")
        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened)
        except Exception as error:  # templates raise what they like
            raise PromptError(f"chat template: {error}, with the roles {[role for role, _ in turns]}") from error
        return str(text)


def _adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts a bos token before a text."""
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos is not None and tokenizer.encode("a", add_special_tokens=True)[:1] == [bos]
