"""The prompt: ordered spans of text, each trained-on or not. Training, TTFT, inference and scoring all use this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.encoders import GridEncoder

Shown = tuple[Grid | None, Grid]
"""One example of a prompt: the grid that is given, where there is one, and the grid that answers it."""


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
    """In place of `input` for the pair that is asked for; None where it is the same, as for the next two."""
    query_output: str | None = None
    query_end: str | None = None
    stop: str | None = None
    """The part of an answer's end that is one token and stops generation; None where it is all of the end."""
    prefill: bool = False
    """Whether the prompt gives what every encoded grid begins with, so that an answer is the rest of its text."""
    verify: str | None = None
    """What asks whether an answer is right: the text between its stop token and the verdict; None where a model is
    never asked, as for the next two."""
    right: str | None = None
    """The verdict on a right answer, one token."""
    wrong: str | None = None

    def __post_init__(self) -> None:
        verdict = (self.verify, self.right, self.wrong)
        if verdict != (None, None, None) and (None in verdict or not self.right or self.right == self.wrong):
            raise PromptError(
                f"prompt format: found verify {self.verify!r}, right {self.right!r} and wrong {self.wrong!r}, expected "
                "a text and two different verdicts, or none of the three"
            )
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
        """What follows a grid in an answer, up to its stop token and with it."""
        return self.for_query.split_end()[0]

    def split_end(self) -> tuple[str, str]:
        """`end` up to the stop token, which is trained with its output, and the rest; nothing of it without one."""
        head, stop, tail = self.end.partition(self.stop_text)
        return (head + stop, tail) if stop else ("", head)

    def given(self, encoder: GridEncoder) -> str:
        """The part of an encoded answer that is in the prompt."""
        return encoder.prefix if self.prefill else ""


def training_prompt(task: Task, encoder: GridEncoder, fmt: PromptFormat, loss: Loss = "outputs_but_first") -> Prompt:
    """All train pairs of a view, the last of them asked for: the prompt of a leave-one-out query and its answer.

    With the pairs in random order all outputs but the first hold every leave-one-out query at once.
    """
    known = ((pair.input, pair.output) for pair in task.train)
    return _training_prompt(task, [(given, grid) for given, grid in known if grid is not None], encoder, fmt, loss)


def inputs_prompt(task: Task, encoder: GridEncoder, fmt: PromptFormat, loss: Loss = "last_output") -> Prompt:
    """Input from inputs (arc24): train inputs of a view, where each is to be generated from those before it.

    `fmt` is a format of its own, `Preset.inputs`: a grid stands where an output would, and before it none.
    """
    return _training_prompt(task, [(None, pair.input) for pair in task.train], encoder, fmt, loss)


def query_prompt(query: Query, encoder: GridEncoder, fmt: PromptFormat) -> Prompt:
    """All train pairs of a view and one test input; the text stops where the answer begins."""
    shown = [(pair.input, pair.output) for pair in query.task.train if pair.output is not None]
    return _open_prompt(shown, query.input, encoder, fmt, "last_output")


def with_answer(prompt: Prompt, answer: Grid, encoder: GridEncoder, fmt: PromptFormat) -> Prompt:
    """A query prompt and an answer to it, which is trained on (or scored) up to its stop token."""
    return Prompt((*prompt.spans, Span(written_answer(answer, encoder, fmt), True)))


def written_answer(answer: Grid, encoder: GridEncoder, fmt: PromptFormat) -> str:
    """What a model writes to answer with a grid: without what the prompt gave, its end and stop token included."""
    return encoder.encode(answer).removeprefix(fmt.given(encoder)) + fmt.answer_end


def answer_text(completion: str, encoder: GridEncoder, fmt: PromptFormat) -> str:
    """The text of a completion that the encoder decodes: with what the prompt gave, without the end of an answer.

    An end that is not exactly the format's stays, and the encoder refuses it.
    """
    return fmt.given(encoder) + completion.removesuffix(fmt.answer_end)


def _training_prompt(
    task: Task, examples: Sequence[Shown], encoder: GridEncoder, fmt: PromptFormat, loss: Loss
) -> Prompt:
    if len(examples) < 2:
        raise PromptError(f"task {task.id}: found {len(examples)} train pair, expected 2 or more to train on")
    if loss not in get_args(Loss):
        raise PromptError(f"loss: found {loss!r}, expected one of {', '.join(get_args(Loss))}")
    *shown, (given, answer) = examples
    return with_answer(_open_prompt(shown, given, encoder, fmt, loss), answer, encoder, fmt)


def _open_prompt(
    shown: Sequence[Shown], given: Grid | None, encoder: GridEncoder, fmt: PromptFormat, loss: Loss
) -> Prompt:
    """Examples with their answers, then the one that is asked for, up to where its answer begins."""
    around = loss == "everything"
    spans = [Span(fmt.begin, around)]
    for number, (grid, answer) in enumerate(shown, start=1):
        trained = loss in ("outputs", "everything") or (loss == "outputs_but_first" and number > 1)
        text = encoder.encode(answer).removeprefix(fmt.given(encoder))
        end, rest = fmt.split_end()
        spans += [Span(_asked(number, grid, encoder, fmt), around), Span(text + end, trained), Span(rest, around)]
    spans.append(Span(_asked(len(shown) + 1, given, encoder, fmt.for_query), around))
    return Prompt(_joined(spans))


def _asked(number: int, grid: Grid | None, encoder: GridEncoder, fmt: PromptFormat) -> str:
    """The text up to where an answer begins."""
    text = "" if grid is None else encoder.encode(grid)
    return fmt.input.replace("{i}", str(number)) + text + fmt.output + fmt.given(encoder)


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Neighbours that are trained alike become one span."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].trained == span.trained:
            joined[-1] = Span(joined[-1].text + span.text, span.trained)
        elif span.text:
            joined.append(span)
    return tuple(joined)
