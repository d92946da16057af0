"""Prompts of tasks. Training, test-time fine-tuning, inference and scoring all make theirs here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt_format import Prompt, PromptFormat, Span

Shown = tuple[Grid | None, Grid]
"""One example of a prompt: the grid that is given, where there is one, and the grid that answers it."""


def training_prompt(task: Task, notation: Notation) -> Prompt:
    """All train pairs of a view, the last of them asked for: the prompt of a leave-one-out query and its answer.

    With the pairs in random order all outputs but the first hold every leave-one-out query at once. Raises PromptError
    for a task with fewer than two train pairs.
    """
    known = ((pair.input, pair.output) for pair in task.train)
    return _training_prompt(task, [(given, grid) for given, grid in known if grid is not None], notation)


def inputs_prompt(task: Task, notation: Notation) -> Prompt:
    """Input from inputs (arc24): train inputs of a view, where each is to be generated from those before it.

    The notation is one of its own, `Notation.for_inputs`: a grid stands where an output would, and before it none.
    """
    return _training_prompt(task, [(None, pair.input) for pair in task.train], notation)


def query_prompt(query: Query, notation: Notation) -> Prompt:
    """All train pairs of a view and one test input; the text stops where the answer begins."""
    shown = [(pair.input, pair.output) for pair in query.task.train if pair.output is not None]
    return _open_prompt(shown, query.input, notation, "last_output")


def with_answer(prompt: Prompt, answer: Grid, notation: Notation) -> Prompt:
    """A query prompt and an answer to it, which is trained on (or scored) up to its stop token."""
    return Prompt((*prompt.spans, Span(notation.completion(answer), True)))


def _training_prompt(task: Task, examples: Sequence[Shown], notation: Notation) -> Prompt:
    if len(examples) < 2:
        raise PromptError(f"task {task.id}: found {len(examples)} train pair, expected 2 or more to train on")
    if notation.loss not in get_args(Loss):
        raise PromptError(f"loss: found {notation.loss!r}, expected one of {', '.join(get_args(Loss))}")
    *shown, (given, answer) = examples
    return with_answer(_open_prompt(shown, given, notation, notation.loss), answer, notation)


def _open_prompt(shown: Sequence[Shown], given: Grid | None, notation: Notation, loss: Loss) -> Prompt:
    """Examples with their answers, then the one that is asked for, up to where its answer begins."""
    fmt, around = notation.format, loss == "everything"
    end, rest = fmt.split_end()
    spans = [Span(fmt.begin, around)]
    for number, (grid, answer) in enumerate(shown, start=1):
        trained = loss in ("outputs", "everything") or (loss == "outputs_but_first" and number > 1)
        text = notation.encoder.encode(answer).removeprefix(notation.given)
        spans += [Span(_asked(number, grid, notation, fmt), around), Span(text + end, trained), Span(rest, around)]
    spans.append(Span(_asked(len(shown) + 1, given, notation, fmt.for_query), around))
    return Prompt(_joined(spans))


def _asked(number: int, grid: Grid | None, notation: Notation, fmt: PromptFormat) -> str:
    """The text up to where an answer begins, with the texts of `fmt`."""
    text = "" if grid is None else notation.encoder.encode(grid)
    return fmt.input.replace("{i}", str(number)) + text + fmt.output + notation.given


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same text in fewer spans: neighbours that are trained alike become one."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].trained == span.trained:
            joined[-1] = Span(joined[-1].text + span.text, span.trained)
        elif span.text:
            joined.append(span)
    return tuple(joined)
