"""The parts of a prompt: spans of text, trained on or not, and the format whose texts stand around the grids."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from arc_kaggle.errors import PromptError


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of prompt text; `trained` says whether its tokens carry labels."""

    text: str
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ordered spans. Every span is tokenized by itself, so that labels follow from spans exactly.

    A span is therefore as long as can be, and ends only where training begins or ends and where the answer begins:
    a token such as "```\\n\\n" crosses from a grid into the text behind it, and models were trained with such tokens.
    """

    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The text around the grids: `begin`, then `input` grid `output` grid `end` for every pair, numbered by `{i}`."""

    begin: str
    input: str
    output: str
    end: str
    query_input: str | None = None
    """The text in place of `input` for the pair that is asked for; None for the same, as in the next two fields."""
    query_output: str | None = None
    query_end: str | None = None
    stop: str | None = None
    """The part of an answer's end that is one token and stops generation; None where it is all of the end."""
    prefill: bool = False
    """Whether the prompt gives what every encoded grid begins with, so that an answer is the rest of its text."""
    verify: str | None = None
    """The question whether an answer is right: the text between its stop token and the verdict. None if the model is
    never asked, as in the next two fields."""
    right: str | None = None
    """The verdict on a right answer, one token."""
    wrong: str | None = None
    against: str | None = None
    """The text between a proposed answer's stop token and another answer that it is compared with; `verify` where it is
    None."""
    choose: str | None = None
    """The question after the other answer, whether the first of the two is right, before `right` or `wrong`; `verify`
    is used if it is None."""
    extract: str | None = None
    """How an answer among other words is found: `lines` for the last run of whole lines that is a grid, or a regular
    expression whose first group, else whole match, is one; None where only exact answers count."""

    def __post_init__(self) -> None:
        verdict = (self.verify, self.right, self.wrong)
        if verdict != (None, None, None) and (None in verdict or not self.right or self.right == self.wrong):
            raise PromptError(
                f"prompt format: found verify {self.verify!r}, right {self.right!r} and wrong {self.wrong!r}, expected "
                "a text and two different verdicts, or none of the three"
            )
        try:
            re.compile(self.extract or "")
        except re.error as error:
            raise PromptError(
                f"prompt format: found extract {self.extract!r}: {error}, expected `lines` or a regular expression"
            ) from error
        end = self.end if self.query_end is None else self.query_end
        if not end:
            raise PromptError("prompt format: found no text for `end`; without it no answer ever ends")
        if self.stop is not None and (not self.stop or end.count(self.stop) != 1):
            raise PromptError(
                f"prompt format: found stop {self.stop!r} {end.count(self.stop) if self.stop else 0} times in the end "
                f"of an answer {end!r}, expected it there once; `stop` is the token that ends an answer"
            )

    @property
    def for_query(self) -> PromptFormat:
        """The same format with the texts that stand around the pair that is asked for."""
        pick = {name: getattr(self, f"query_{name}") for name in ("input", "output", "end")}
        return replace(self, **{name: text for name, text in pick.items() if text is not None})

    @property
    def stop_text(self) -> str:
        """The text of the token that ends an answer."""
        return self.for_query.end if self.stop is None else self.stop

    @property
    def answer_end(self) -> str:
        """The text that follows a grid in an answer, up to and including its stop token."""
        return self.for_query.split_end()[0]

    def split_end(self) -> tuple[str, str]:
        """`end` up to the stop token, which is trained with its output, and the rest; nothing of it without one."""
        head, stop, tail = self.end.partition(self.stop_text)
        return (head + stop, tail) if stop else ("", head)
