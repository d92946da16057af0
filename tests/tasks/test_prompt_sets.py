"""Reading sets of prompts with completions: the shapes that are taken, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.prompt_sets import PromptItem, read_prompt_set

USER, ANSWER = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}


def read(tmp_path: Path, *values: Any) -> tuple[PromptItem, ...]:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in values))
    return read_prompt_set(path)


def test_all_shapes_say_the_same(tmp_path: Path) -> None:
    (plain,) = read(tmp_path, {"prompt": "2+2?", "completion": "4"})
    assert plain == PromptItem("set-1", (("user", "2+2?"),), "4")
    chats = [
        read(tmp_path, value)[0]
        for value in (
            {"messages": [USER, ANSWER]},
            {"prompt": [USER], "completion": [ANSWER]},
            {"prompt": [USER], "completion": "4"},
        )
    ]
    assert {(chat.turns, chat.completion, chat.is_chat) for chat in chats} == {((("user", "2+2?"),), "4", True)}


def test_what_is_given_is_no_part_of_the_completion(tmp_path: Path) -> None:
    (item,) = read(tmp_path, {"id": 7, "prompt": "2+2?", "completion": "It is 4", "given": "It is "})
    assert (item.id, item.given, item.completion) == ("7", "It is ", "4")


def test_choices_begin_with_what_is_given_or_do_not(tmp_path: Path) -> None:
    value = {"prompt": "2+2?", "completion": "It is 4", "given": "It is "}
    for choices in (["It is 4", "It is 5"], ["4", "5"]):
        (item,) = read(tmp_path, {**value, "choices": choices})
        assert (item.completion, item.choices) == ("4", ("4", "5"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "line 1: .*expected JSON"),
        ([], "expected an object with either prompt or messages"),
        ({"completion": "4"}, "expected an object with either prompt or messages"),
        ({"prompt": "2+2?"}, "found neither a completion nor tests"),
        ({"messages": [ANSWER, USER]}, "found messages that end with 'user'"),
        ({"messages": [ANSWER]}, "expected a prompt and then one by assistant"),
        ({"messages": [{"role": "user"}]}, "expected texts as its role and content"),
        ({"prompt": [USER], "completion": [ANSWER, ANSWER]}, "found 2 messages as completion, expected one"),
        ({"prompt": "2+2?", "completion": "4", "choices": ["5"]}, "expected it among the choices"),
        ({"prompt": "2+2?", "completion": "4", "choices": ["4", "5", "5 "]}, "found a choice twice"),
        ({"prompt": "2+2?", "completion": "4", "choices": "45"}, "for choices, expected a list of texts"),
        ({"prompt": "2+2?", "completion": "4", "tests": 1}, "for tests and .* expected texts"),
    ],
)
def test_what_is_no_item_is_refused_with_its_line(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        read(tmp_path, value)


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    item = {"id": "a", "prompt": "2+2?", "completion": "4"}
    with pytest.raises(TaskError, match="found 1 ids that are there already"):
        read(tmp_path, item, item)
    with pytest.raises(TaskError, match="found texts and messages"):
        read(tmp_path, item, {"messages": [USER, ANSWER]})
    with pytest.raises(TaskError, match="found no line"):
        read(tmp_path, "")
    with pytest.raises(TaskError, match="cannot be read"):
        read_prompt_set(tmp_path / "absent.jsonl")
