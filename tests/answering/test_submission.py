"""The submission: two valid grids for every query, at every moment."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TASK_JSON, WriteJson, grids, prediction, small_task, tasks

from arc_kaggle.answering.candidates import group_candidates
from arc_kaggle.answering.submission import SubmissionFile, choose_attempts, read_submission, vote_task
from arc_kaggle.errors import SubmissionError
from arc_kaggle.system.files import write_atomically
from arc_kaggle.tasks.grid import as_grid, grid_lists, same_grid
from arc_kaggle.tasks.task import Query, Task, task_from_json

ANSWER = {"attempt_1": [[1]], "attempt_2": [[2]]}


def query_of(grid: Any) -> Query:
    """Of a task whose train pairs have nothing in common that a fallback could use."""
    train = [{"input": [[1]], "output": [[2, 3]]}, {"input": [[1]], "output": [[4], [5]]}]
    return next(task_from_json("a", {"train": train, "test": [{"input": grid_lists(grid)}]}).queries)


@given(grids(3, 2), st.lists(grids(2, 2), max_size=3))
def test_attempts_are_two_different_valid_grids_best_candidates_first(asked: Any, answers: list[Any]) -> None:
    candidates = group_candidates(prediction(grid_lists(grid), view) for view, grid in enumerate(answers))
    first, second = choose_attempts(query_of(asked), candidates)
    assert not same_grid(as_grid(first), as_grid(second))
    for attempt, candidate in zip((first, second), candidates, strict=False):
        assert same_grid(attempt, candidate.grid)


@pytest.mark.parametrize(
    ("asked", "candidate", "attempts"),
    [
        ([[5, 6, 6]], None, ([[5, 6, 6]], [[6, 6, 6]])),
        ([[5, 6, 6]], [[3]], ([[3]], [[5, 6, 6]])),
        ([[5, 6, 6]], [[5, 6, 6]], ([[5, 6, 6]], [[6, 6, 6]])),
        ([[4, 4]], None, ([[4, 4]], [[0]])),
        ([[4, 4]], [[4, 4]], ([[4, 4]], [[0]])),
        ([[0]], None, ([[0]], [[1]])),
        ([[0]], [[1]], ([[1]], [[0]])),
    ],
)
def test_fallbacks_fill_what_the_vote_leaves_open(asked: Any, candidate: Any, attempts: Any) -> None:
    candidates = [] if candidate is None else group_candidates([prediction(candidate)])
    assert tuple(map(grid_lists, choose_attempts(query_of(as_grid(asked)), candidates))) == attempts


@pytest.mark.parametrize(
    ("candidates", "attempts"),
    [
        ([], ([[6], [5]], [[5], [6]])),
        ([[[3]]], ([[3]], [[6], [5]])),
        ([[[3]], [[4]]], ([[3]], [[6], [5]])),
        ([[[6], [5]], [[4]]], ([[6], [5]], [[4]])),
        ([[[3]], [[6], [5]]], ([[3]], [[6], [5]])),
    ],
)
def test_what_a_rule_says_that_holds_for_all_train_pairs_takes_the_second_attempt(
    candidates: list[Any], attempts: Any
) -> None:
    train = [{"input": [[1], [2]], "output": [[2], [1]]}, {"input": [[3], [4]], "output": [[4], [3]]}]
    query = next(task_from_json("flipped", {"train": train, "test": [{"input": [[5], [6]]}]}).queries)
    ranked = group_candidates(prediction(grid, view) for view, grid in enumerate(candidates))
    assert tuple(map(grid_lists, choose_attempts(query, ranked))) == attempts


def test_every_query_of_a_task_is_voted_on_by_itself() -> None:
    task = task_from_json("small", {"train": TASK_JSON["train"], "test": [{"input": [[7, 8]]}, {"input": [[9, 9, 1]]}]})
    found = [prediction([[1]], 0, 0), prediction([[2]], 0, 1), prediction([[2]], 1, 1), prediction([[3]], 2, 1)]
    attempts = [[grid_lists(grid) for grid in pair] for pair in vote_task(task, found)]
    assert attempts == [[[[1]], [[7, 8]]], [[[2]], [[3]]]]


@given(st.lists(tasks(), min_size=1, max_size=4, unique_by=lambda task: task.id))
def test_a_new_file_is_complete_and_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, some_tasks: list[Task]
) -> None:
    path = tmp_path_factory.mktemp("new") / "submission.json"
    written = SubmissionFile(path, some_tasks)
    written.write()
    again = read_submission(path, some_tasks)
    assert {i: [[grid_lists(g) for g in pair] for pair in pairs] for i, pairs in again.items()} == {
        i: [[grid_lists(g) for g in pair] for pair in pairs] for i, pairs in written.attempts.items()
    }
    assert json.loads(path.read_text()).keys() == {task.id for task in some_tasks}


def test_a_reader_sees_a_whole_submission_however_often_it_is_replaced(tmp_path: Path) -> None:
    some_tasks = [task_from_json(f"t{i}", TASK_JSON) for i in range(10)]
    submission = SubmissionFile(tmp_path / "submission.json", some_tasks)
    submission.write()
    seen: set[int] = set()
    errors: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                attempts = read_submission(submission.path, some_tasks)
                first = {pair[0].size for pairs in attempts.values() for pair in pairs}
                seen.add(first.pop())
                assert not first, "parts of two versions"
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(500):
        grid = np.full((1 + i % 30, 2), i % 10, dtype=np.int8)
        for task in some_tasks:
            submission.put(task.id, [(grid, grid)])
        submission.write()
    done.set()
    reader.join()
    assert not errors
    assert len(seen) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["submission.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "submission.json"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "submission.json: found list, expected an object of task id -> answers"),
        ({}, "submission.json: found no answer for 1 tasks, the first is small"),
        ({"small": ANSWER}, "submission.json: task small: found dict, expected a list of 1, one a test input"),
        ({"small": []}, "submission.json: task small: found 0 answers, expected a list of 1, one a test input"),
        ({"small": [ANSWER] * 2}, "submission.json: task small: found 2 answers, expected a list of 1, one a"),
        ({"small": [[[1]]]}, 'task small, query 0: expected an object with "attempt_1" and "attempt_2"'),
        ({"small": [{"attempt_1": [[1]]}]}, 'task small, query 0: expected an object with "attempt_1" and "attempt_2"'),
        (
            {"small": [{**ANSWER, "attempt_2": [[1, 10]]}]},
            "task small, query 0, attempt_2, row 0, column 1: found 10 (int), expected an integer 0..9",
        ),
        ({"small": [{**ANSWER, "attempt_1": None}]}, "task small, query 0, attempt_1: found NoneType, expected a list"),
    ],
)
def test_what_is_no_submission_is_named(write_json: WriteJson, value: Any, problem: str) -> None:
    with pytest.raises(SubmissionError, match=re.escape(problem)):
        read_submission(write_json("submission.json", value), [small_task()])


@pytest.mark.parametrize("text", ["", "{", '{"small": [NaN]}', '{"small": [], "small": []}', "[" * 100_000])
def test_what_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(SubmissionError, match=r"submission\.json"):
        read_submission(tmp_path / "submission.json", [small_task()])
    with pytest.raises(SubmissionError, match=r"nowhere\.json: cannot be read"):
        read_submission(tmp_path / "nowhere.json", [small_task()])


def test_answers_to_other_tasks_are_not_looked_at(write_json: WriteJson) -> None:
    path = write_json("submission.json", {"small": [ANSWER], "other": "?"})
    assert [[grid_lists(g) for g in pair] for pair in read_submission(path, [small_task()])["small"]] == [
        [[[1]], [[2]]]
    ]
