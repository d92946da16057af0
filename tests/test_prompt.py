"""Prompts and their labels, exactly, on a tokenizer with one token a character."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import augmentations, grids, pairs, small_task, tasks

from arc_kaggle.augmentation import Augmentation
from arc_kaggle.encoder import MinimalGridEncoder
from arc_kaggle.errors import PromptError
from arc_kaggle.grid import Grid, as_grid
from arc_kaggle.prompt import Prompt, PromptFormat, Span, query_prompt, training_prompt, with_answer
from arc_kaggle.task import Pair, Task
from arc_kaggle.tokens import NOT_TRAINED, check_cells, single_token, tokenize

FORMAT = PromptFormat(begin="B", input="I", output="O", end="E")
ENCODER = MinimalGridEncoder()


class RegexTokenizer:
    """One token for every match of a pattern; a token's id is its place in order of appearance."""

    def __init__(self, pattern: str = r"[\s\S]") -> None:
        self.pattern = pattern
        self.symbols: list[str] = []

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        found = re.findall(self.pattern, text)
        self.symbols += [symbol for symbol in dict.fromkeys(found) if symbol not in self.symbols]
        return [self.symbols.index(symbol) for symbol in found]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self.symbols[i] for i in token_ids)


def labelled(prompt: Prompt, tokenizer: RegexTokenizer) -> str:
    """What is trained on, as text, with a dot for every token that is not."""
    labels = tokenize(prompt, tokenizer).labels.tolist()
    return "".join("." if label == NOT_TRAINED else tokenizer.decode([label]) for label in labels)


def test_a_training_prompt_trains_every_output_but_the_first() -> None:
    prompt = training_prompt(small_task(), ENCODER, FORMAT)
    assert prompt.text == "BI12O2\n1EI3O44E"
    assert labelled(prompt, RegexTokenizer()) == "............44E"


def test_a_query_prompt_ends_where_the_answer_begins() -> None:
    (query,) = small_task().queries
    prompt = query_prompt(query, ENCODER, FORMAT)
    assert prompt.text == "BI12O2\n1EI3O44EI56O"
    assert labelled(prompt, RegexTokenizer()) == "." * len(prompt.text)


def test_an_answer_is_trained_on_with_its_end() -> None:
    (query,) = small_task().queries
    prompt = with_answer(query_prompt(query, ENCODER, FORMAT), as_grid([[6], [5]]), ENCODER, FORMAT)
    assert prompt.text == "BI12O2\n1EI3O44EI56O6\n5E"
    assert labelled(prompt, RegexTokenizer()) == "." * 19 + "6\n5E"


@given(tasks(), st.integers(0, 1), grids())
def test_an_answered_prompt_begins_with_the_ids_of_its_query_prompt(task: Task, index: int, answer: Grid) -> None:
    tokenizer = RegexTokenizer(r"\d\n|[\s\S]")  # merges, but never over the border of a span
    query = list(task.queries)[min(index, len(task.test) - 1)]
    asked = query_prompt(query, ENCODER, FORMAT)
    before = tokenize(asked, tokenizer).ids.tolist()
    after = tokenize(with_answer(asked, answer, ENCODER, FORMAT), tokenizer)
    assert after.ids.tolist()[: len(before)] == before
    assert tokenizer.decode(after.labels.tolist()[len(before) :]) == ENCODER.encode(answer) + "E"


@given(tasks().filter(lambda task: len(task.train) >= 2))
def test_labels_are_the_ids_or_not_trained(task: Task) -> None:
    tokenizer = RegexTokenizer()
    example = tokenize(training_prompt(task, ENCODER, FORMAT), tokenizer)
    trained = example.labels != NOT_TRAINED
    assert example.ids.shape == example.labels.shape
    assert (example.labels[trained] == example.ids[trained]).all()
    outputs = [ENCODER.encode(pair.output) + "E" for pair in task.train[1:] if pair.output is not None]
    assert tokenizer.decode(example.labels[trained].tolist()) == "".join(outputs)


@given(pairs(), pairs(), augmentations(2))
def test_every_query_prompt_of_a_view_is_the_begin_of_a_training_prompt(a: Pair, b: Pair, view: Augmentation) -> None:
    seen = view.apply_task(Task("a", (a, b), (Pair(a.input, None),)))
    last = Task("a", seen.train[:1], seen.train[1:])
    (query,) = last.queries
    assert query.answer is not None
    answered = with_answer(query_prompt(query, ENCODER, FORMAT), query.answer, ENCODER, FORMAT)
    trained, asked = (
        tokenize(prompt, RegexTokenizer()) for prompt in (training_prompt(seen, ENCODER, FORMAT), answered)
    )
    assert trained.ids.tolist() == asked.ids.tolist()
    assert trained.labels.tolist() == asked.labels.tolist()


def test_the_solution_is_in_no_prompt() -> None:
    task = small_task()
    hidden = task.without_solution()
    assert training_prompt(task, ENCODER, FORMAT) == training_prompt(hidden, ENCODER, FORMAT)
    for shown, unknown in zip(task.queries, hidden.queries, strict=True):
        assert query_prompt(shown, ENCODER, FORMAT) == query_prompt(unknown, ENCODER, FORMAT)


def test_a_single_train_pair_cannot_be_trained_on() -> None:
    task = Task("007bbfb7", small_task().train[:1], small_task().test)
    with pytest.raises(PromptError, match=r"^task 007bbfb7: found 1 train pair, expected 2 or more"):
        training_prompt(task, ENCODER, FORMAT)


def test_a_format_without_an_end_is_refused() -> None:
    with pytest.raises(PromptError, match="found no text for `end`"):
        PromptFormat(begin="B", input="I", output="O", end="")


def test_empty_spans_are_no_tokens() -> None:
    example = tokenize(Prompt((Span(""), Span("12"), Span("", True))), RegexTokenizer())
    assert example.ids.tolist() == [0, 1]
    assert example.labels.tolist() == [NOT_TRAINED, NOT_TRAINED]


def test_an_end_must_be_one_token() -> None:
    assert single_token("E", RegexTokenizer(), "end of an answer") == 0
    assert single_token("<end>", RegexTokenizer("<end>|."), "end of an answer") == 0
    with pytest.raises(PromptError, match=r"^end of an answer: '<end>' is 5 tokens, expected 1"):
        single_token("<end>", RegexTokenizer(), "end of an answer")


def test_a_token_a_cell_is_accepted() -> None:
    tokenizer = RegexTokenizer()
    check_cells(tokenizer)
    assert sorted(tokenizer.symbols) == ["\n", *"0123456789"]


@pytest.mark.parametrize(
    "merges",
    [r"\d+", r"\d{1,3}", "89", "00", "77", "31", r"\d\n", r"\n\d", "1\n1"],
    ids=lambda merges: f"merges {merges!r}",
)
def test_a_tokenizer_that_merges_cells_is_refused(merges: str) -> None:
    with pytest.raises(
        PromptError, match=r"^tokenizer: '.*' is \d+ tokens, expected \d+: it merges digits or newlines"
    ):
        check_cells(RegexTokenizer(merges + r"|[\s\S]"))


def test_a_tokenizer_that_adds_tokens_is_refused() -> None:
    with pytest.raises(PromptError, match=r"is 11 tokens, expected 10"):
        check_cells(RegexTokenizer(r"^|[\s\S]"))
