"""Prompts and their labels, exactly, on a tokenizer with one token a character."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import augmentations, grids, pairs, small_task, tasks

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import Grid, as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.encoders import MinimalGridEncoder, parse_encoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import inputs_prompt, query_prompt, training_prompt, with_answer
from arc_kaggle.text.prompt_format import Prompt, PromptFormat, Span
from arc_kaggle.text.tokenizer_checks import check_cells, check_example, check_notation
from arc_kaggle.text.tokens import NOT_TRAINED, Example, single_token, token_limit, tokenize

FORMAT = PromptFormat(begin="B", input="I", output="O", end="E")
CHAT = PromptFormat(
    "B", "\n{i}I", "O", ";", query_input="Q", query_output="A", query_end="\nE\n", stop="E", prefill=True
)
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


NOTATION = Notation(ENCODER, FORMAT, RegexTokenizer())


def noted(tokenizer: RegexTokenizer) -> Notation:
    return replace(NOTATION, tokenizer=tokenizer)


def labelled(prompt: Prompt, tokenizer: RegexTokenizer) -> str:
    """What is trained on, as text, with a dot for every token that is not."""
    labels = tokenize(prompt, tokenizer).labels.tolist()
    return "".join("." if label == NOT_TRAINED else tokenizer.decode([label]) for label in labels)


def test_a_training_prompt_trains_every_output_but_the_first() -> None:
    prompt = training_prompt(small_task(), NOTATION)
    assert prompt.text == "BI12O2\n1EI3O44E"
    assert labelled(prompt, RegexTokenizer()) == "............44E"


def test_a_query_prompt_ends_where_the_answer_begins() -> None:
    (query,) = small_task().queries
    prompt = query_prompt(query, NOTATION)
    assert prompt.text == "BI12O2\n1EI3O44EI56O"
    assert labelled(prompt, RegexTokenizer()) == "." * len(prompt.text)


def test_an_answer_is_trained_on_with_its_end() -> None:
    (query,) = small_task().queries
    prompt = with_answer(query_prompt(query, NOTATION), as_grid([[6], [5]]), NOTATION)
    assert prompt.text == "BI12O2\n1EI3O44EI56O6\n5E"
    assert labelled(prompt, RegexTokenizer()) == "." * 19 + "6\n5E"


@given(tasks(), st.integers(0, 1), grids())
def test_an_answered_prompt_begins_with_the_ids_of_its_query_prompt(task: Task, index: int, answer: Grid) -> None:
    tokenizer = RegexTokenizer(r"\d\n|[\s\S]")  # merges, but never over the border of a span
    query = list(task.queries)[min(index, len(task.test) - 1)]
    asked = query_prompt(query, NOTATION)
    before = tokenize(asked, tokenizer).ids.tolist()
    after = tokenize(with_answer(asked, answer, NOTATION), tokenizer)
    assert after.ids.tolist()[: len(before)] == before
    assert tokenizer.decode(after.labels.tolist()[len(before) :]) == ENCODER.encode(answer) + "E"


@given(tasks().filter(lambda task: len(task.train) >= 2))
def test_labels_are_the_ids_or_not_trained(task: Task) -> None:
    tokenizer = RegexTokenizer()
    example = tokenize(training_prompt(task, NOTATION), tokenizer)
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
    answered = with_answer(query_prompt(query, NOTATION), query.answer, NOTATION)
    trained, asked = (tokenize(prompt, RegexTokenizer()) for prompt in (training_prompt(seen, NOTATION), answered))
    assert trained.ids.tolist() == asked.ids.tolist()
    assert trained.labels.tolist() == asked.labels.tolist()


def test_the_solution_is_in_no_prompt() -> None:
    task = small_task()
    hidden = task.without_solution()
    assert training_prompt(task, NOTATION) == training_prompt(hidden, NOTATION)
    for shown, unknown in zip(task.queries, hidden.queries, strict=True):
        assert query_prompt(shown, NOTATION) == query_prompt(unknown, NOTATION)


def test_a_single_train_pair_cannot_be_trained_on() -> None:
    task = Task("007bbfb7", small_task().train[:1], small_task().test)
    with pytest.raises(PromptError, match=r"^task 007bbfb7: found 1 train pair, expected 2 or more"):
        training_prompt(task, NOTATION)


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


# Formats


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("outputs_but_first", ".........44E..5E"),
        ("outputs", "....2E...44E..5E"),
        ("last_output", "..............5E"),
        ("everything", "BI1O2EI3O44EI4O5E"),
    ],
)
def test_losses(loss: Loss, expected: str) -> None:
    grids = [([[1]], [[2]]), ([[3]], [[4, 4]]), ([[4]], [[5]])]
    task = Task("t", tuple(Pair(as_grid(a), as_grid(b)) for a, b in grids), ())
    prompt = training_prompt(task, replace(NOTATION, loss=loss))
    assert prompt.text == "BI1O2EI3O44EI4O5E"
    assert labelled(prompt, RegexTokenizer()).replace(".", "") == expected.replace(".", "")
    assert [span.trained for span in prompt.spans] == {
        "outputs_but_first": [False, True, False, True],
        "outputs": [False, True, False, True, False, True],
        "last_output": [False, True],
        "everything": [True, True],
    }[loss]


def test_an_unknown_loss_is_refused() -> None:
    unknown: Any = "outputs_only"
    with pytest.raises(PromptError, match=r"^loss: found 'outputs_only', expected one of outputs_but_first, outputs,"):
        training_prompt(small_task(), replace(NOTATION, loss=unknown))


def test_the_query_has_texts_of_its_own_and_a_prefilled_answer() -> None:
    notation = Notation(parse_encoder("block+minimal"), CHAT, RegexTokenizer(), "outputs")
    prompt = training_prompt(small_task(), notation)
    first = "B\n1I```grid\n12\n```O```grid"
    asked = ";Q```grid\n3\n```A```grid"
    assert [span.text for span in prompt.spans] == [first, "\n2\n1\n```", asked, "\n44\n```\nE"]
    (query,) = small_task().queries
    assert query_prompt(query, notation).text.endswith(";Q```grid\n56\n```A```grid")
    assert notation.answer_text("\n44\n```\nE") == "```grid\n44\n```"
    assert notation.answer_text("\n44\n```E") == "```grid\n44\n```E", "an end that is not the format's stays"


def test_input_from_inputs_shows_no_output() -> None:
    notation = replace(NOTATION, inputs=PromptFormat("B", "{i}I", "", "E")).for_inputs
    prompt = inputs_prompt(small_task(), notation)
    assert prompt.text == "B1I12E2I3E"
    assert [span.text for span in prompt.spans if span.trained] == ["3E"]
    assert inputs_prompt(small_task(), replace(notation, loss="outputs")).spans[1] == Span("12E", True)


@given(
    tasks().filter(lambda task: len(task.train) >= 2), st.sampled_from(get_args(Loss)), st.sampled_from([FORMAT, CHAT])
)
def test_a_training_prompt_is_the_answered_leave_one_out_query(task: Task, loss: Loss, fmt: PromptFormat) -> None:
    notation = Notation(parse_encoder("shape+minimal"), fmt, RegexTokenizer(), loss)
    last = task.train[-1]
    assert last.output is not None
    (query,) = Task(task.id, task.train[:-1], (Pair(last.input, None),)).queries
    asked = query_prompt(query, notation)
    answered = with_answer(asked, last.output, notation)
    trained = training_prompt(task, notation)
    assert trained.text == answered.text
    assert trained.spans[-1] == answered.spans[-1], "where the answer begins is a border in every loss"


@pytest.mark.parametrize("stop", ["", "F", "E"])
def test_a_stop_must_be_in_the_end_once(stop: str) -> None:
    with pytest.raises(PromptError, match=rf"^prompt format: found stop '{stop}' [02] times in the end .* 'EE'"):
        PromptFormat("B", "I", "O", "EE", stop=stop)


# Checks before the first step


def test_a_format_that_the_tokenizer_carries() -> None:
    tokenizer = RegexTokenizer()
    for notation in (noted(tokenizer), Notation(parse_encoder("shape+rows+minimal"), CHAT, tokenizer)):
        assert check_notation(notation) == notation.stop_id == single_token("E", tokenizer, "")


def test_a_stop_that_is_in_every_grid_is_refused() -> None:
    with pytest.raises(PromptError, match=r"^prompt format: an answer of \d+ characters .* with 30 stop tokens '\\n'"):
        check_notation(replace(NOTATION, format=replace(FORMAT, end="\n")))


def test_a_stop_that_merges_with_the_answer_is_refused() -> None:
    with pytest.raises(PromptError, match=r"^prompt format: the last label is '\dE', expected the stop token 'E'"):
        check_notation(noted(RegexTokenizer(r"\dE|[\s\S]")))


class CuttingTokenizer(RegexTokenizer):
    """Cuts without a word, as a tokenizer with truncation does."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        ids = super().encode(text, add_special_tokens=add_special_tokens)
        return ids if len(ids) <= 512 else [*ids[:511], ids[-1]]


def test_a_tokenizer_that_cuts_is_refused() -> None:
    with pytest.raises(
        PromptError, match=r"an answer of 929 characters came back from its tokens as 511, .*truncation"
    ):
        check_notation(noted(CuttingTokenizer()))


def answered_example(tokenizer: RegexTokenizer) -> Example:
    (query,) = small_task().queries
    prompt = with_answer(query_prompt(query, NOTATION), as_grid([[6], [5]]), NOTATION)
    return tokenize(prompt, tokenizer)


def test_an_example_that_teaches_is_accepted_whatever_the_pad_token_is() -> None:
    tokenizer = RegexTokenizer()
    example = answered_example(tokenizer)
    end = single_token("E", tokenizer, "")
    check_example(example, noted(tokenizer), "task a", pad_id=end)
    padded = Example(np.append(example.ids, [end] * 3), np.append(example.labels, [NOT_TRAINED] * 3))
    check_example(padded, noted(tokenizer), "task a", pad_id=end)


def test_an_example_without_a_label_is_refused() -> None:
    tokenizer = RegexTokenizer()
    (query,) = small_task().queries
    example = tokenize(query_prompt(query, NOTATION), tokenizer)
    with pytest.raises(PromptError, match=r"^task a: found no label in 19 tokens, expected some to train on"):
        check_example(example, noted(tokenizer), "task a")


@pytest.mark.parametrize("same", [True, False])
def test_a_hidden_end_is_refused_and_the_pad_token_blamed_where_it_is_to_blame(same: bool) -> None:
    tokenizer = RegexTokenizer()
    example, end = answered_example(tokenizer), single_token("E", tokenizer, "")
    hidden = Example(example.ids, np.where(example.labels == end, NOT_TRAINED, example.labels))
    with pytest.raises(PromptError, match=r"^task a: the last label is '5', expected the stop token 'E'") as caught:
        check_example(hidden, noted(tokenizer), "task a", pad_id=end if same else end + 1)
    assert ("the pad token is the stop token and hid it" in str(caught.value)) is same


def test_a_longer_example_than_the_tokenizer_was_made_for_is_refused_not_cut() -> None:
    tokenizer: Any = RegexTokenizer()
    assert token_limit(tokenizer) == sys.maxsize
    tokenizer.model_max_length = int(1e30)
    assert token_limit(tokenizer) == sys.maxsize
    tokenizer.model_max_length = 20
    with pytest.raises(PromptError, match=r"^task a: 23 tokens, expected at most the tokenizer's model_max_length 20"):
        check_example(answered_example(tokenizer), noted(tokenizer), "task a")


# Cells


ENCODER_SPECS = (
    *("minimal", "repeat(2)", "separated('|')", "separated(' ')", "colours", "replace('abcdefghij')+separated('--')"),
    *("rows+minimal", "rows+colours", "block+repeat(3)", "shape+rows+minimal", "shape+replace('abcdefghij')+minimal"),
)


@pytest.mark.parametrize("spec", ENCODER_SPECS)
def test_a_token_a_character_is_accepted_where_cells_are_as_long(spec: str) -> None:
    if spec.endswith("colours"):  # names differ in length
        with pytest.raises(
            PromptError, match=r"^tokenizer: in 'Black' it makes the tokens \['B', 'l', 'a', 'c', 'k'\]"
        ):
            check_cells(RegexTokenizer(), parse_encoder(spec))
        check_cells(RegexTokenizer(r" ?[A-Z][a-z]+|[\s\S]"), parse_encoder(spec))
    else:
        check_cells(RegexTokenizer(), parse_encoder(spec))


def test_a_token_a_cell_is_accepted() -> None:
    tokenizer = RegexTokenizer()
    check_cells(tokenizer)
    assert sorted(tokenizer.symbols) == ["\n", *"0123456789"]


@pytest.mark.parametrize(
    "merges",
    [r"\d+", r"\d{1,3}", "89", "00", "77", "31", r"\d\n", r"\n\d", "1\n1", r"\d{29,}"],
    ids=lambda merges: f"merges {merges!r}",
)
def test_a_tokenizer_that_merges_cells_is_refused(merges: str) -> None:
    with pytest.raises(PromptError, match=r"^tokenizer: in '.*' it makes the tokens .*, expected .*: it merges cells"):
        check_cells(RegexTokenizer(merges + r"|[\s\S]"))


@pytest.mark.parametrize(
    ("merges", "spec", "fixes"),
    [
        (r"\d{3}", "minimal", "repeat(3), separated('|'), replace('ñò÷ûąćďęĚĞ')+minimal"),
        (r"\d{3}", "shape+minimal", "shape+repeat(3), shape+separated('|'), shape+replace('ñò÷ûąćďęĚĞ')+minimal"),
        (r"\d{1,3}", "rows+minimal", "rows+repeat(3), rows+separated('|'), rows+replace('ñò÷ûąćďęĚĞ')+minimal"),
        (r"\w+", "minimal", "separated('|')"),
        (r"[\d|]+|\w+", "block+minimal", "none of those known"),
        (r" \d", "separated(' ')", "minimal, repeat(3), separated('|'), replace('ñò÷ûąćďęĚĞ')+minimal"),
    ],
)
def test_the_message_names_the_encoders_that_keep_cells_apart(merges: str, spec: str, fixes: str) -> None:
    with pytest.raises(PromptError) as caught:
        check_cells(RegexTokenizer(merges + r"|[\s\S]"), parse_encoder(spec))
    assert str(caught.value).endswith(f"encoders that fix it: {fixes}")


def test_a_closed_vocabulary_is_told_what_it_cannot_write() -> None:
    class Closed(RegexTokenizer):
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            if set(text) - set("0123456789\n"):
                raise ValueError("no such symbol")
            return super().encode(text, add_special_tokens=add_special_tokens)

    check_cells(Closed())
    with pytest.raises(PromptError, match=r"fix it: repeat\(3\)$"):
        check_cells(Closed(r"\d{3}|[\s\S]"))


def test_a_tokenizer_that_adds_tokens_is_refused() -> None:
    with pytest.raises(PromptError, match=r"^tokenizer: in '00' it makes the tokens \['0'\], expected \['', '0'\]"):
        check_cells(RegexTokenizer(r"^|[\s\S]"))
