"""Token ids and labels, and the little that is used of a tokenizer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.errors import ArcKaggleError, PromptError
from arc_kaggle.text.prompt_format import Prompt

NOT_TRAINED = -100
TokenIds = NDArray[np.int64]


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Token ids (T,) and labels (T,); a label is the token id itself, or -100 where it is not trained on."""

    ids: TokenIds
    labels: TokenIds


def token_ids(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of a text, without begin and end tokens. Raises PromptError where a closed vocabulary cannot write it."""
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except ArcKaggleError:
        raise
    except Exception as error:  # the library has no class for a character that a vocabulary does not have
        raise PromptError(
            f"tokenizer: {error} in {text!r:.60}, expected it to take every text of the encoder and of the prompt "
            "format; choose the --encoder and the --prompt that the model was trained with"
        ) from error


def each_token_ids(texts: Sequence[str], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Ids of many texts, as `token_ids` gives them; what is behind transformers' tokenizers takes them in one call."""
    with suppress(Exception):  # whatever is wrong with one of them, `token_ids` says
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            token_ids(texts[0], tokenizer)  # which sets its truncation, padding and special tokens
            found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return {text: one.ids for text, one in zip(texts, found, strict=True)}
    return {text: token_ids(text, tokenizer) for text in texts}


def tokenize(prompt: Prompt, tokenizer: Tokenizer) -> Example:
    """Ids and labels of a prompt. Spans are tokenized one by one: no token ever crosses a span's border."""
    ids: list[int] = []
    labels: list[int] = []
    for span in prompt.spans:
        span_ids = token_ids(span.text, tokenizer) if span.text else []
        ids += span_ids
        labels += span_ids if span.trained else [NOT_TRAINED] * len(span_ids)
    return Example(np.array(ids, dtype=np.int64), np.array(labels, dtype=np.int64))


def single_token(text: str, tokenizer: Tokenizer, role: str) -> int:
    """The id of a text that must be exactly one token, such as the end of an answer. Raises PromptError."""
    ids = token_ids(text, tokenizer)
    if len(ids) != 1:
        raise PromptError(
            f"{role}: {text!r} is {len(ids)} tokens, expected 1; choose another text in the prompt format"
        )
    return ids[0]


def token_limit(tokenizer: Tokenizer) -> int:
    """Most tokens that the tokenizer's model was made for, as its `model_max_length` says; no limit without one."""
    return int(min(getattr(tokenizer, "model_max_length", sys.maxsize), sys.maxsize))
