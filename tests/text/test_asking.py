"""Prompts and labels of items: what a model reads, what it learns, and how the two fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prompt_models import CHATML, chat_tokenizer

from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.prompt_sets import PromptItem
from arc_kaggle.text.asking import Asking
from arc_kaggle.text.tokens import NOT_TRAINED

ITEM = PromptItem("a", (("user", "How many cells?"),), "It is 12", given="")
SHOT = PromptItem("b", (("user", "How many rows?"),), "3")


def parts(asking: Asking, item: PromptItem, everything: bool = False) -> tuple[str, str]:
    """(the text without labels, the text with labels) of an example."""
    example = asking.example(item, everything)
    trained = example.labels != NOT_TRAINED
    decode = asking.tokenizer.decode
    assert (example.labels[trained] == example.ids[trained]).all()
    return decode(example.ids[~trained].tolist()), decode(example.ids[trained].tolist())


def test_the_completion_and_its_end_are_trained_and_nothing_else() -> None:
    assert parts(Asking(chat_tokenizer()), ITEM) == ("How many cells?", "It is 12</s>")
    before = "<|im_start|>user\nHow many cells?<|im_end|>\n<|im_start|>assistant\n"
    assert parts(Asking(chat_tokenizer(), chat=True), ITEM) == (before, "It is 12<|im_end|>")


def test_everything_is_trained_where_that_is_asked_for() -> None:
    assert parts(Asking(chat_tokenizer()), ITEM, everything=True) == ("", "How many cells?It is 12</s>")


def test_what_is_given_stands_in_the_prompt() -> None:
    item = PromptItem("a", ITEM.turns, "12", given="It is ")
    assert parts(Asking(chat_tokenizer()), item) == ("How many cells?It is ", "12</s>")
    before, trained = parts(Asking(chat_tokenizer(), chat=True), item)
    assert before.endswith("<|im_start|>assistant\nIt is ") and trained == "12<|im_end|>"


def test_an_example_begins_with_the_prompt_that_is_asked() -> None:
    """Token for token, so that what is asked is what was trained."""
    for chat in (False, True):
        asking = Asking(chat_tokenizer(), chat, "Count. ", (SHOT,))
        ids, example = asking.ids(ITEM), asking.example(ITEM)
        assert example.ids[: len(ids)].tolist() == ids.tolist()
        assert example.ids[len(ids) :].tolist() == asking.answer_ids(ITEM, ITEM.completion).tolist()
        assert example.ids[-1] == asking.end_id(ITEM)


def test_examples_and_the_prefix_come_before_the_prompt() -> None:
    asking = Asking(chat_tokenizer(), prefix="Count. ", shots=(SHOT,))
    assert asking.prompt(ITEM).text == "Count. How many rows?3\n\nHow many cells?"
    chat = Asking(chat_tokenizer(), True, "Count. ", (SHOT,)).prompt(ITEM).text
    turns = ["user\nCount. How many rows?", "assistant\n3", "user\nHow many cells?", "assistant\n"]
    assert chat == "<|im_end|>\n".join(f"<|im_start|>{turn}" for turn in turns)


def test_a_template_that_answers_do_not_come_out_of_is_refused() -> None:
    strips = CHATML.replace("m.content", "(m.content | trim)")
    with pytest.raises(PromptError, match="it strips answers or adds words of its own"):
        Asking(chat_tokenizer(strips), True).ids(PromptItem("a", ITEM.turns, " 12 "))
    endless = CHATML.replace("<|im_end|>", ".")
    with pytest.raises(PromptError, match="expected a token that ends it"):
        Asking(chat_tokenizer(endless), True).ids(ITEM)
    with pytest.raises(PromptError, match="found no chat template"):
        Asking(chat_tokenizer(""), True).ids(ITEM)


@pytest.mark.parametrize(("name", "end"), [("qwen2_5", "<|im_end|>"), ("llama3_2", "<|eot_id|>")])
def test_labels_hold_on_real_templates(real_tokenizers: Path, name: str, end: str) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(real_tokenizers / name, local_files_only=True)
    before, trained = parts(Asking(tokenizer, True), ITEM)
    assert trained == "It is 12" + end
    assert "How many cells?" in before and before.rstrip().endswith(("assistant", "<|end_header_id|>"))
