"""The notation of a model: its grid encoder, prompt format, tokenizer and loss, carried as one value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import DecodeError, PromptError
from arc_kaggle.tasks.grid import MAX_SIDE, Grid
from arc_kaggle.text.encoders import GridEncoder
from arc_kaggle.text.prompt_format import Prompt, PromptFormat
from arc_kaggle.text.tokens import TokenIds, Tokenizer, single_token, token_ids, token_limit

MOST_LINES = MAX_SIDE + 2
"""Lines of the tallest grid and its fence."""


@dataclass(frozen=True, slots=True)
class Notation:
    """How tasks are written for a model, and how its answers are read.

    Everything that makes a prompt or reads a completion takes this value, so that training, test-time fine-tuning,
    inference and scoring cannot differ. A variant is made by `dataclasses.replace`.
    """

    encoder: GridEncoder
    format: PromptFormat
    tokenizer: Tokenizer
    loss: Loss = "outputs_but_first"
    """Which spans of a training prompt carry labels."""
    inputs: PromptFormat | None = None
    """The format of prompts that generate an input from inputs; None where the model was not trained with one."""

    @property
    def for_inputs(self) -> Notation:
        """The notation of prompts that generate an input from inputs. Raises PromptError where there is none."""
        if self.inputs is None:
            raise PromptError(
                "prompt format: found no form for input from inputs, expected one; name a --prompt that has it (plain, "
                "arc24, chat), or leave out --inputs-share"
            )
        return replace(self, format=self.inputs, loss="last_output")

    @property
    def token_limit(self) -> int:
        """Most tokens of a prompt, as the tokenizer's `model_max_length` says."""
        return token_limit(self.tokenizer)

    @property
    def stop_id(self) -> int:
        """The id of the token that ends an answer. Raises PromptError where its text is not exactly one token."""
        return single_token(self.format.stop_text, self.tokenizer, "end of an answer")

    @property
    def given(self) -> str:
        """The part of an encoded answer that stands in the prompt already."""
        return self.encoder.prefix if self.format.prefill else ""

    def in_encoder(self, encoder: GridEncoder | None) -> Notation:
        """The same notation with another encoder; itself where that is None."""
        return self if encoder is None else replace(self, encoder=encoder)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without begin and end tokens."""
        return token_ids(text, self.tokenizer)

    def n_tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a prompt, whose spans are tokenized one by one."""
        return sum(len(self.ids(span.text)) for span in prompt.spans)

    def completion(self, grid: Grid) -> str:
        """The text of a model's answer: a grid without what the prompt gives, and the end with its stop token."""
        return self.encoder.encode(grid).removeprefix(self.given) + self.format.answer_end

    def completion_ids(self, grid: Grid) -> TokenIds:
        """Token ids (T,) of `completion`."""
        return np.array(self.ids(self.completion(grid)), dtype=np.int64)

    def answer_text(self, completion: str) -> str:
        """The text that the encoder decodes: with what the prompt gives, without the end of an answer.

        An end that is not exactly the format's stays, and the encoder refuses it.
        """
        return self.given + completion.removesuffix(self.format.answer_end)

    def read(self, completion: str) -> Grid:
        """The grid of a completion, shape (height, width). Raises DecodeError where it is not exactly one grid."""
        return self.encoder.decode(self.answer_text(completion))

    def extract(self, completion: str) -> Grid | None:
        """The last grid that a completion holds among other words; None where the format asks for exact answers alone.

        With `PromptFormat.extract` as `lines` it is the longest run of whole lines that ends last, else the last match
        of that regular expression that is a grid.
        """
        if self.format.extract is None:
            return None
        text = self.answer_text(completion)
        pieces = _runs_of_lines(text) if self.format.extract == "lines" else _matches(self.format.extract, text)
        for piece in pieces:
            try:
                return self.encoder.decode(piece)
            except DecodeError:
                continue
        return None


def _runs_of_lines(text: str) -> Iterator[str]:
    """All runs of neighbouring lines, those that end last first, and of these the longest first."""
    lines = text.split("\n")
    for end in range(len(lines), 0, -1):
        yield from ("\n".join(lines[start:end]) for start in range(max(0, end - MOST_LINES), end))


def _matches(pattern: str, text: str) -> Iterator[str]:
    """The matches of a pattern, the last first; of one with groups its first group."""
    return (match[1 if match.re.groups else 0] or "" for match in reversed([*re.finditer(pattern, text)]))
