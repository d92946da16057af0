"""What is left out so that a prompt fits, on a tokenizer with one token a character, and what the command lists."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import WriteJson, small_task, tasks
from tokenizers import Tokenizer, models, pre_tokenizers

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.commands.fit import FitConfig, Length, TaskFit, fit
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.options import Drop
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.engines.fake import FAKE_NOTATION, EchoEngine, SymbolTokenizer
from arc_kaggle.errors import ConfigError
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.grid import Grid, as_grid, grid_lists
from arc_kaggle.tasks.task import Pair, Query, Task, task_to_json
from arc_kaggle.text.box_tokenizer import box_tokenizer
from arc_kaggle.text.encoders import RepeatNumberEncoder
from arc_kaggle.text.fit_prompt import Fitted, fit_query, fit_training, similarity
from arc_kaggle.text.prompt import query_prompt, training_prompt

TOKENIZER = SymbolTokenizer()
POLICIES: tuple[Drop, ...] = ("last", "largest", "least_similar")


def row(*cells: int) -> Grid:
    return as_grid([list(cells)])


def task_of(*inputs: Grid, asked: Grid) -> Task:
    """Every train output is its input; the format adds 3 tokens a pair, 1 at the start and 2 around the test input."""
    return Task("task", tuple(Pair(grid, grid) for grid in inputs), (Pair(asked, None),))


UNEVEN = task_of(row(1, 1), row(2, 2, 2, 2), row(3, 3), asked=row(3, 1))
WHOLE = 1 + 7 + 11 + 7 + 4


def fitted(task: Task, max_tokens: int, drop: Drop = "last") -> Fitted:
    return fit_query(Query(task, 0), FAKE_NOTATION, max_tokens, drop)


def text_of(found: Fitted) -> str:
    return TOKENIZER.decode(found.example.ids.tolist())


@pytest.mark.parametrize("drop", POLICIES)
def test_what_fits_exactly_keeps_every_pair(drop: Drop) -> None:
    found = fitted(UNEVEN, WHOLE, drop)
    assert found.fits and found.dropped == () and len(found.example.ids) == WHOLE


@pytest.mark.parametrize(
    ("drop", "max_tokens", "dropped"),
    [
        ("last", WHOLE - 1, (2,)),
        ("last", WHOLE - 8, (2, 1)),
        ("largest", WHOLE - 1, (1,)),
        ("largest", WHOLE - 12, (1, 2)),
        ("least_similar", WHOLE - 1, (1,)),
    ],
)
def test_a_policy_says_which_pair_goes_first(drop: Drop, max_tokens: int, dropped: tuple[int, ...]) -> None:
    found = fitted(UNEVEN, max_tokens, drop)
    assert found.fits and found.dropped == dropped
    kept = tuple(pair for i, pair in enumerate(UNEVEN.train) if i not in dropped)
    assert text_of(found) == query_prompt(Query(replace(UNEVEN, train=kept), 0), FAKE_NOTATION).text


def test_the_least_similar_input_goes_before_a_larger_one() -> None:
    task = task_of(row(1, 1, 2), row(1, 1, 2, 2), row(7, 7), asked=row(1, 1, 2, 2))
    assert fitted(task, 34, "least_similar").dropped == ()
    assert fitted(task, 33, "least_similar").dropped == (2,)
    assert fitted(task, 33, "largest").dropped == (1,)


def test_similarity_is_half_shape_and_half_colours() -> None:
    assert similarity(row(1, 2), row(2, 1)) == 1
    assert similarity(row(1, 1), row(1, 1, 1, 1)) == pytest.approx((1 / 2 + 1) / 2)
    assert similarity(row(1, 2), as_grid([[1], [3]])) == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert similarity(row(1), row(2, 2)) == pytest.approx(1 / 4)


def test_where_the_policy_keeps_a_pair_that_is_too_large_the_largest_goes_instead() -> None:
    task = task_of(row(*[1] * 30), row(2, 2), row(3, 3), asked=row(3, 1))
    assert fitted(task, 19).dropped == (0,)
    assert fitted(task, 12).dropped == (0, 2)


def test_what_never_fits_is_the_shortest_prompt_and_says_so() -> None:
    found = fitted(UNEVEN, 5)
    assert not found.fits and len(found.dropped) == 2 and text_of(found) == "^I11O11$I31O"


@given(tasks(), st.integers(1, 120), st.sampled_from(POLICIES))
def test_a_prompt_fits_whenever_any_pairs_do(task: Task, max_tokens: int, drop: Drop) -> None:
    query = Query(task, 0)
    found = fit_query(query, FAKE_NOTATION, max_tokens, drop)
    lengths = [
        len(query_prompt(Query(replace(task, train=kept), 0), FAKE_NOTATION).text)
        for n in range(1, len(task.train) + 1)
        for kept in combinations(task.train, n)
    ]
    assert found.fits == (min(lengths) <= max_tokens) == (len(found.example.ids) <= max_tokens)
    assert len(set(found.dropped)) == len(found.dropped) < len(task.train)


@given(tasks(), st.integers(1, 120), st.sampled_from(POLICIES))
def test_a_training_prompt_fits_whenever_two_pairs_do(task: Task, max_tokens: int, drop: Drop) -> None:
    if len(task.train) < 2:
        return
    found = fit_training(task, FAKE_NOTATION, max_tokens, drop)
    shortest = min(
        len(training_prompt(replace(task, train=two), FAKE_NOTATION).text) for two in combinations(task.train, 2)
    )
    assert found.fits == (shortest <= max_tokens)
    assert len(task.train) - len(found.dropped) >= 2


def test_training_by_similarity_looks_at_the_nearest_test_input() -> None:
    task = task_of(row(3, 3), row(1, 1), row(2, 2), asked=row(1, 1))
    both = replace(task, test=(*task.test, Pair(row(2, 2), None)))
    assert fit_training(both, FAKE_NOTATION, 16, "least_similar").dropped == (0,)
    assert fit_training(task, FAKE_NOTATION, 16, "least_similar").dropped == (2,)


# Through inference


def answers(config: GenerateConfig) -> list[Prediction]:
    """Of a task written with three tokens a cell, by an engine that repeats the test input."""
    notation = FAKE_NOTATION.in_encoder(RepeatNumberEncoder(3))
    task, rng = task_of(row(1, 1), row(2, 2), asked=row(3, 1)), np.random.default_rng(0)
    requests = list(make_requests(task, notation, config, rng))
    engine = EchoEngine(TOKENIZER.id_of("I"), TOKENIZER.id_of("$"))
    found = predict(requests, Interpreter(engine, notation), config, Deadline(1e9, lambda: 0.0))
    return sorted(found, key=lambda prediction: prediction.view)


def test_a_prompt_that_never_fits_has_a_reason() -> None:
    found = answers(GenerateConfig(n_views=2, max_prompt_tokens=23))
    assert [prediction.reason for prediction in found] == ["prompt_too_long"] * 2


def test_a_prompt_that_never_fits_is_answered_by_a_more_compact_encoder() -> None:
    found = answers(GenerateConfig(n_views=2, max_prompt_tokens=15, fallback_encoder="minimal"))
    assert [prediction.grid is not None and grid_lists(prediction.grid) for prediction in found] == [[[3, 1]]] * 2
    assert found[0].text == "31$"


def test_the_fallback_is_not_used_where_a_pair_fits() -> None:
    found = answers(GenerateConfig(n_views=1, max_prompt_tokens=24, fallback_encoder="minimal"))
    assert found[0].text == "333111$"


def test_an_unknown_fallback_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="minimel"):
        settle(SolveConfig("arc1:training", Path("out"), generate=GenerateConfig(fallback_encoder="minimel")))


# The command


@pytest.fixture
def tasks_file(write_json: WriteJson) -> Path:
    task = task_of(row(1, 1, 1, 1), row(2, 2), row(3, 3), asked=row(3, 1))
    return write_json("two.json", {"small": task_to_json(small_task()), "uneven": task_to_json(task)})


def config_of(tasks_file: Path, max_tokens: int) -> FitConfig:
    box_tokenizer().save_pretrained(tasks_file.parent / "tokenizer")
    return FitConfig(tasks_file.parent / "tokenizer", (str(tasks_file),), max_tokens=max_tokens, prompt="plain")


def test_three_lengths_of_a_task_transposed_or_not(tasks_file: Path) -> None:
    report = fit(config_of(tasks_file, 1000))
    (small, uneven) = report.sets[str(tasks_file)]
    # The transposed rows cost a newline a cell: 1 + (7 + 3 + 3) + (3 + 3 + 3) + (3 + 3 + 3), and so on.
    assert uneven == TaskFit(
        "uneven",
        3,
        {
            "prompt": Length(1 + (7 + 7 + 3) + 2 * (3 + 3 + 3) + 5, 0, True),
            "prompt + answer": Length(1 + (7 + 7 + 3) + 2 * (3 + 3 + 3) + 5 + 8, 0, True),
            "leave-one-out": Length(1 + (7 + 7 + 3) + 2 * (3 + 3 + 3), 0, True),
        },
    )
    assert small.lengths["prompt"].tokens == len("^I1\n2O21$I3O4\n4$I5\n6O")
    assert small.lengths["prompt + answer"].tokens == len("^I1\n2O21$I3O4\n4$I5\n6O56$")  # the known answer


def test_the_report_lists_what_does_not_fit(tasks_file: Path) -> None:
    report = fit(config_of(tasks_file, 30))
    assert "uneven" in report.text and "never" in report.text
    assert "small" not in report.text.partition("does not fit")[2]
    assert f"{tasks_file}: 2 tasks, 1 fit 30 tokens" in report.text
    lengths = report.sets[str(tasks_file)][1].lengths
    assert lengths["prompt"] == Length(41, 2, True)
    assert lengths["leave-one-out"] == Length(36, 1, True)


def test_answer_tokens_may_be_given(tasks_file: Path) -> None:
    longer = fit(replace(config_of(tasks_file, 1000), answer_tokens=500)).sets[str(tasks_file)][0].lengths
    assert longer["prompt + answer"].tokens == longer["prompt"].tokens + 500


def test_the_table_has_a_row_for_every_encoder(tasks_file: Path, tmp_path: Path) -> None:
    """With one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = replace(config_of(tasks_file, 1000), table=True, tokenizer=tmp_path, prompt="nvarc")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in fit(config).text.splitlines()]
    assert len(rows) == 11 and all(len(cells) == 5 for cells in rows)
    assert rows[2][:2] == [" `minimal` ", f" {30 * 30 + 29 + len('<|im_end|>')} "]
    assert rows[3][0] == r" `separated('\|')` "


@pytest.mark.parametrize("change", [{"max_tokens": 0}, {"answer_tokens": 0}, {"tokenizer": Path("/nowhere")}])
def test_bad_options_are_refused(tasks_file: Path, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        fit(replace(config_of(tasks_file, 100), **change))


def test_a_real_task_that_never_fits_4096_tokens(real_tokenizers: Path) -> None:
    (found,) = fit(FitConfig(real_tokenizers / "qwen2_5", ("arc1:evaluation",), "47996f11")).sets["arc1:evaluation"]
    assert found.lengths["prompt"] == Length(9372, 3, True)
    assert found.lengths["prompt + answer"] == Length(10394, 3, False)
    (compact,) = fit(FitConfig(real_tokenizers / "qwen2_5", ("arc1:evaluation",), "47996f11", encoder="minimal")).sets[
        "arc1:evaluation"
    ]
    assert compact.lengths["prompt + answer"].fits
