"""Sets of prompts with completions, as people publish them: JSON-lines of {"prompt", "completion"} or of messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_kaggle.errors import TaskError
from arc_kaggle.system.inputs import read_input_lines
from arc_kaggle.tasks.task import summary

Turn = tuple[str, str]
"""(role, text) of a chat message."""


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A prompt and its completion. `given` is how every answer begins: it is part of the prompt and never trained."""

    id: str
    turns: tuple[Turn, ...]
    """What is asked; a plain prompt is one turn of the user."""
    completion: str
    """What follows `given`; empty where only `tests` judge an answer."""
    is_chat: bool = False
    """Whether the file has messages, so that the chat template writes them."""
    given: str = ""
    choices: tuple[str, ...] = ()
    """Of a multiple-choice question, the completion among them; like that they follow `given`."""
    tests: str = ""
    """Python code that raises where an answer, which is code too, is wrong."""

    @property
    def question(self) -> str:
        """All that is asked, as one text; items with the same question are never on both sides of a split."""
        return "\n".join(text for _, text in self.turns)


def read_prompt_set(path: Path) -> tuple[PromptItem, ...]:
    """The items of a .jsonl file, which may be packed (.gz, .xz). Raises TaskError, with the line, for anything else.

    An object has `prompt` (a text, or a list of messages) and `completion` (a text, or one message), or `messages`, of
    which the last is the completion. It may have `id`, `given`, `choices` and `tests`, too.
    """
    try:
        items = [_item(line, f"{path.name}, line {i}", f"{path.stem}-{i}") for i, line in _lines(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read ({error})") from error
    if not items:
        raise TaskError(f"{path}: found no line, expected one or more with a prompt and a completion")
    if twice := len(items) - len({item.id for item in items}):
        raise TaskError(f"{path}: found {twice} ids that are there already, expected one of its own for every line")
    if len({item.is_chat for item in items}) > 1:
        raise TaskError(f"{path}: found texts and messages, expected one of the two in a file")
    return tuple(items)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(read_input_lines(path), start=1) if line.strip())


def _item(line: str, at: str, default_id: str) -> PromptItem:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{at}: {error}, expected JSON") from error
    if not isinstance(value, dict) or ("messages" in value) is ("prompt" in value):
        raise TaskError(f"{at}: found {summary(value)}, expected an object with either prompt or messages")
    is_chat = not isinstance(value.get("prompt"), str)
    if "messages" in value:
        *turns, (role, completion) = _turns(value["messages"], at) or [("", "")]
        if role != "assistant" or not turns:
            raise TaskError(f"{at}: found messages that end with {role!r}, expected a prompt and then one by assistant")
    else:
        turns = _turns(value["prompt"], at) if is_chat else [("user", value["prompt"])]
        completion = _completion(value.get("completion", ""), at)
    choices, tests, given = value.get("choices", []), value.get("tests", ""), value.get("given", "")
    if not (isinstance(choices, list) and all(isinstance(each, str) for each in choices)):
        raise TaskError(f"{at}: found {summary(choices)} for choices, expected a list of texts")
    if not isinstance(tests, str) or not isinstance(given, str):
        raise TaskError(f"{at}: found {summary(tests)} for tests and {summary(given)} for given, expected texts")
    if not completion and not tests:
        raise TaskError(f"{at}: found neither a completion nor tests, expected one of them")
    completion, *shown = (text.removeprefix(given) for text in (completion, *choices))
    if shown and completion not in shown:
        raise TaskError(f"{at}: found the completion {completion!r:.60}, expected it among the choices")
    if len({text.strip() for text in shown}) < len(shown):
        raise TaskError(f"{at}: found a choice twice in {summary(choices)}, expected different ones")
    return PromptItem(str(value.get("id", default_id)), tuple(turns), completion, is_chat, given, tuple(shown), tests)


def _turns(value: Any, at: str) -> list[Turn]:
    """The messages of a list of {"role", "content"}."""
    if not isinstance(value, list) or not value:
        raise TaskError(f"{at}: found {summary(value)}, expected a list of messages")
    for turn in value:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            raise TaskError(f"{at}: found the message {summary(turn)}, expected texts as its role and content")
    return [(turn["role"], turn["content"]) for turn in value]


def _completion(value: Any, at: str) -> str:
    if isinstance(value, str):
        return value
    turns = _turns(value, at)
    if len(turns) != 1:
        raise TaskError(f"{at}: found {len(turns)} messages as completion, expected one")
    return turns[0][1]
