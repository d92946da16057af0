"""Files: JSON that every reader takes, written in one step."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from arc_kaggle.system.files import strict_json, write_json


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": nan, "b": [1.5, inf, (-inf, "x")]}, {"a": None, "b": [1.5, None, [None, "x"]]}),
        ({"a": {"b": 0.1, "c": None, "d": True}, "e": 10**21}, {"a": {"b": 0.1, "c": None, "d": True}, "e": 10**21}),
        (nan, None),
    ],
)
def test_a_number_that_json_has_not_is_written_as_null(tmp_path: Path, value: Any, expected: Any) -> None:
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=refuse) == expected
    assert json.loads(strict_json(value), parse_constant=refuse) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_json_cannot_hold_at_all_is_still_an_error() -> None:
    with pytest.raises(TypeError):
        strict_json({"a": Path()})
