"""What is taken from the text of an answer, and how several predictions become one."""

from __future__ import annotations

import pytest

from arc_kaggle.config.prompts import Combine
from arc_kaggle.evaluation.prompts.answers import TextAnswer, TextPrediction, code_in, combined, found_in, number_behind


@pytest.mark.parametrize(
    ("text", "marker", "number"),
    [
        ("2 + 2 = 4\n#### 4", "####", "4"),
        ("#### 3, no: #### 1,234.50 apples", "####", "1234.5"),
        ("#### -7", "####", "-7"),
        ("#### none", "####", None),
        ("the answer is 4", "####", None),
        ("the answer is 4", "", "4"),
        ("#### 4.0", "####", "4"),
    ],
)
def test_the_number_behind_the_last_marker(text: str, marker: str, number: str | None) -> None:
    assert number_behind(text, marker) == number


def test_the_answer_in_a_text() -> None:
    assert found_in("  yes \n", "", "") == "yes"
    assert found_in(" \n", "", "") is None
    assert found_in("a: 1, a: 2\n\na: 3", "\n\n", r"a: (\d)") == "2"
    assert found_in("nothing", "", r"a: (\d)") is None


def test_code_in_a_fence_or_bare() -> None:
    assert code_in("Here:\n```python\nx = 1\n```\nDone") == "x = 1\n"
    assert code_in("```\nx = 1") == "x = 1"
    assert code_in("x = 1") == "x = 1"


def prediction(log_prob: float, ended: bool = True) -> TextPrediction:
    return TextPrediction("m", "", 1, ended, log_prob)


@pytest.mark.parametrize(("how", "value"), [("vote", "a"), ("likeliest", "c"), ("join", "a b c")])
def test_several_predictions_become_one(how: Combine, value: str) -> None:
    values = [("a", prediction(-3)), ("b", prediction(-2)), ("a", prediction(-4)), ("c", prediction(-1))]
    assert combined(how, values) == value
    assert combined(how, []) is None


def test_the_likeliest_is_so_by_the_mean_of_its_tokens() -> None:
    long = TextPrediction("m", "", 4, True, -4.0)
    assert combined("likeliest", [("short", prediction(-2)), ("long", long)]) == "long"


def test_of_equal_votes_the_likelier_one_wins() -> None:
    assert combined("vote", [("a", prediction(-3)), ("b", prediction(-2))]) == "b"


def test_an_answer_is_cut_off_where_no_prediction_ended() -> None:
    assert TextAnswer("i", (prediction(0, False), prediction(0, False)), "a").cut_off
    assert not TextAnswer("i", (prediction(0, False), prediction(0, True)), "a").cut_off
