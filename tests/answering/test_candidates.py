"""Predictions survive on disk as they were, and what a killed writer left behind does no harm."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import prediction, predictions

from arc_kaggle.answering.candidates import (
    CandidateScore,
    Prediction,
    group_candidates,
    read_prediction_folder,
    read_predictions,
)
from arc_kaggle.errors import SubmissionError
from arc_kaggle.system.files import append_lines, cut_torn, strict_json
from arc_kaggle.tasks.grid import as_grid, grid_lists


def write(folder: Path, *found: Prediction) -> Path:
    for one in found:
        append_lines(folder / f"{one.task_id}.jsonl", [one.to_json()])
    return folder / f"{found[0].task_id}.jsonl"


@given(predictions())
def test_json_round_trip(found: Prediction) -> None:
    value = json.loads(json.dumps(found.to_json()))
    again = Prediction.from_json(value, "here")
    assert again.to_json() == found.to_json() == value
    assert again.augmentation == found.augmentation
    assert again.grid is None or not again.grid.flags.writeable


def test_written_predictions_are_read_back_in_order(tmp_path: Path) -> None:
    found = [prediction([[view]], view, query) for view in range(3) for query in range(2)]
    path = write(tmp_path, *found)
    assert [p.to_json() for p in read_predictions(path)] == [p.to_json() for p in found]
    write(tmp_path, prediction([[1]], task_id="other"))
    assert {task_id: len(listed) for task_id, listed in read_prediction_folder(tmp_path).items()} == {
        "other": 1,
        "small": 6,
    }


def test_the_later_of_two_lines_for_one_query_and_view_counts(tmp_path: Path) -> None:
    path = write(tmp_path, prediction([[1]], 0), prediction([[2]], 1), prediction(None, 0), prediction([[3]], 0, 1))
    assert [(p.query, p.view, p.reason) for p in read_predictions(path)] == [
        (0, 0, "no_end"),
        (0, 1, None),
        (1, 0, None),
    ]


@given(st.data())
def test_a_torn_last_line_is_passed_over_and_cut_off_by_the_next_writer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("torn"), prediction([[1]], 0), prediction([[2]], 1))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    n_left = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:n_left])
    assert [p.view for p in read_predictions(path)] == ([0] if n_left >= first else [])
    cut_torn(path)
    write(path.parent, prediction([[3]], 2))
    assert [p.view for p in read_predictions(path)] == ([0, 2] if n_left >= first else [2])


def damaged(**changes: Any) -> bytes:
    return json.dumps({**prediction([[1]]).to_json(), **changes}).encode()


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"5", b"null", b"[]", b'"a"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"task_id": "small"}'),
        *(damaged(grid=[[10]]), damaged(grid=[[1], [1, 2]]), damaged(grid="x"), damaged(extra=1)),
        *(damaged(augmentation=value) for value in (None, [], {"symmetry": 9, "colours": [], "order": None})),
        *(damaged(query=value) for value in ("0", None, [], 0.5, True)),
        *(damaged(task_id=3), damaged(view="a"), damaged(n_tokens=None), damaged(log_prob="x"), damaged(reason=4)),
        *(damaged(grid=None), damaged(reason="no_end")),  # neither an answer nor a reason; both
    ],
)
def test_other_damage_names_the_file_and_the_line(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path, prediction([[1]], 0), prediction([[2]], 1))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    with pytest.raises(SubmissionError, match=r"^small\.jsonl, line 2: .*expected a prediction as `solve` writes it$"):
        read_predictions(path)


def test_candidates_are_the_distinct_grids_with_their_evidence() -> None:
    found = [prediction([[1, 2]], 0, log_prob=-1.0), prediction([[1], [2]], 1), prediction(None, 2)]
    found.append(prediction([[1, 2]], 3, log_prob=-6.0, n_tokens=20))
    wide, tall = group_candidates(found)
    assert grid_lists(wide.grid) == [[1, 2]] and wide.predictions == (found[0], found[3])
    assert wide.votes == 2 and wide.mean_log_prob == pytest.approx((-0.1 - 0.3) / 2)
    assert grid_lists(tall.grid) == [[1], [2]] and tall.votes == 1


def test_an_answer_without_tokens_has_a_mean_too() -> None:
    assert group_candidates([prediction([[1]], log_prob=0.0, n_tokens=0)])[0].mean_log_prob == 0.0


def test_numbers_that_json_lacks_are_the_least_likely_when_they_are_read_again() -> None:
    found = replace(prediction([[1]]), log_prob=-math.inf)
    assert Prediction.from_json(json.loads(strict_json(found.to_json())), "a").log_prob == -math.inf
    for nll, verdict in ((math.inf, math.nan), (math.nan, 0.5)):
        score = CandidateScore("a", 0, 0, as_grid([[1]]), nll, verdict)
        again = CandidateScore.from_json(json.loads(strict_json(score.to_json())), "a")
        assert (again.nll, again.verdict) == (math.inf, None if math.isnan(verdict) else verdict)
