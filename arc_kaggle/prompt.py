"""The prompt: ordered spans of text, each trained-on or not. Training, TTFT, inference and scoring all use this one."""

from __future__ import annotations

from dataclasses import dataclass

from arc_kaggle.encoder import GridEncoder
from arc_kaggle.errors import PromptError
from arc_kaggle.grid import Grid
from arc_kaggle.task import Pair, Query, Task


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of prompt text; `trained` says whether its tokens carry labels."""

    text: str
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ordered spans. Every span is tokenized by itself, so that labels follow from spans exactly."""

    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The text around the grids: `begin`, then `input` grid `output` grid `end` for every pair."""

    begin: str
    input: str
    output: str
    end: str

    def __post_init__(self) -> None:
        if not self.end:
            raise PromptError("prompt format: found no text for `end`; without it no answer ever ends")


def training_prompt(task: Task, encoder: GridEncoder, fmt: PromptFormat) -> Prompt:
    """All train pairs of a view; every output but the first is trained on, its `end` with it.

    A first output cannot be derived from anything, so its tokens carry no label (ARChitects 2024). With the pairs
    in random order this holds every leave-one-out query at once.
    """
    if len(task.train) < 2:
        raise PromptError(f"task {task.id}: found 1 train pair, expected 2 or more to train on")
    spans = [Span(fmt.begin)]
    for i, pair in enumerate(task.train):
        spans += _pair_spans(pair, encoder, fmt, trained=i > 0)
    return Prompt(tuple(spans))


def query_prompt(query: Query, encoder: GridEncoder, fmt: PromptFormat) -> Prompt:
    """All train pairs of a view and one test input; the text stops where the answer begins."""
    spans = [Span(fmt.begin)]
    for pair in query.task.train:
        spans += _pair_spans(pair, encoder, fmt, trained=False)
    return Prompt((*spans, Span(fmt.input), Span(encoder.encode(query.input)), Span(fmt.output)))


def with_answer(prompt: Prompt, answer: Grid, encoder: GridEncoder, fmt: PromptFormat) -> Prompt:
    """A query prompt and an answer to it, which is trained on (or scored)."""
    return Prompt((*prompt.spans, Span(encoder.encode(answer), True), Span(fmt.end, True)))


def _pair_spans(pair: Pair, encoder: GridEncoder, fmt: PromptFormat, trained: bool) -> list[Span]:
    assert pair.output is not None, "train pairs have outputs by contract"
    asked = [Span(fmt.input), Span(encoder.encode(pair.input)), Span(fmt.output)]
    return [*asked, Span(encoder.encode(pair.output), trained), Span(fmt.end, trained)]
