"""Runs merged: votes pooled, submissions one attempt each; what does not belong together is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TASK_JSON, WriteJson, grids, prediction, small_task

from arc_kaggle.answering.candidates import read_prediction_folder
from arc_kaggle.answering.submission import choose_attempts, read_submission
from arc_kaggle.commands.combine import CombineConfig, combine, one_each
from arc_kaggle.errors import ArcKaggleError, ConfigError, SubmissionError
from arc_kaggle.system.files import append_lines
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import Grid, grid_lists, same_grid

ONE, TWO, THREE = [[1]], [[2]], [[3]]
Answers = list[list[list[int]]]


@pytest.fixture
def tasks(write_json: WriteJson) -> Path:
    return write_json("tasks.json", {"small": TASK_JSON, "other": TASK_JSON})


def run_folder(folder: Path, answers: Answers, log_prob: float = -1.0, **change: Any) -> Path:
    """A run of `solve` with one view for each answer to the small task."""
    (folder / "predictions").mkdir(parents=True)
    for view, grid in enumerate(answers):
        found = replace(prediction(grid, view, log_prob=log_prob), **change)
        append_lines(folder / "predictions" / f"{found.task_id}.jsonl", [found.to_json()])
    return folder


def submission(path: Path, first: list[list[int]], second: list[list[int]]) -> Path:
    both = [{"attempt_1": first, "attempt_2": second}]
    path.write_text(json.dumps({"small": both, "other": both}), encoding="utf-8")
    return path


def attempts_of(path: Path, tasks: Path, task_id: str = "small") -> list[list[list[int]]]:
    ((first, second),) = read_submission(path, load_tasks(tasks))[task_id]
    return [grid_lists(first), grid_lists(second)]


def test_votes_of_all_folders_are_pooled(tmp_path: Path, tasks: Path) -> None:
    a = run_folder(tmp_path / "a", [ONE, ONE, THREE, TWO])
    b = run_folder(tmp_path / "b", [TWO, TWO, THREE])
    out = tmp_path / "out"
    combined = combine(CombineConfig((a, b), str(tasks), out))
    assert attempts_of(out / "submission.json", tasks) == [TWO, ONE]
    assert (combined.n_runs, combined.n_tasks, combined.n_queries, combined.n_unanswered) == (2, 2, 2, 1)
    assert "1 of 2 test inputs answered" in combined.text


def test_log_probabilities_outweigh_votes_where_asked(tmp_path: Path, tasks: Path) -> None:
    unsure = run_folder(tmp_path / "a", [ONE, ONE, ONE], log_prob=-40.0)  # of 10 tokens: 3 * exp(-4) = 0.05
    sure = run_folder(tmp_path / "b", [TWO], log_prob=-10.0)  # exp(-1) = 0.37
    config = CombineConfig((unsure, sure), str(tasks), tmp_path / "out")
    combine(config)
    assert attempts_of(tmp_path / "out" / "submission.json", tasks) == [ONE, TWO]
    combine(replace(config, by="log_prob", overwrite=True))
    assert attempts_of(tmp_path / "out" / "submission.json", tasks) == [TWO, ONE]


def test_the_pooled_predictions_are_a_run_again(tmp_path: Path, tasks: Path) -> None:
    a, b = run_folder(tmp_path / "a", [ONE, TWO]), run_folder(tmp_path / "b", [TWO, THREE, THREE])
    out, again = tmp_path / "out", tmp_path / "again"
    combine(CombineConfig((a, b), str(tasks), out))
    pooled = read_prediction_folder(out / "predictions")["small"]
    assert [(p.view, p.grid is not None and grid_lists(p.grid)) for p in pooled] == list(
        enumerate([ONE, TWO, TWO, THREE, THREE])
    )
    combine(CombineConfig((out, run_folder(tmp_path / "c", [THREE])), str(tasks), again))
    assert attempts_of(again / "submission.json", tasks) == [THREE, TWO]


def test_runs_of_different_tasks_of_a_set_complete_each_other(tmp_path: Path, tasks: Path) -> None:
    a = run_folder(tmp_path / "a", [ONE])
    b = run_folder(tmp_path / "b", [TWO], task_id="other")
    out = tmp_path / "both.json"
    assert combine(CombineConfig((a, b), str(tasks), out)).n_unanswered == 0
    assert attempts_of(out, tasks)[0] == ONE and attempts_of(out, tasks, "other")[0] == TWO
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((ONE, TWO), (THREE, TWO), [ONE, THREE]),
        ((ONE, TWO), (ONE, THREE), [ONE, TWO]),
        ((ONE, ONE), (ONE, THREE), [ONE, THREE]),
        ((ONE, ONE), (ONE, ONE), [ONE, [[5, 6]]]),  # the test input, as for a query without an answer
    ],
)
def test_of_two_submissions_one_attempt_each(
    tmp_path: Path, tasks: Path, a: Answers, b: Answers, expected: Answers
) -> None:
    runs = submission(tmp_path / "a.json", *a), submission(tmp_path / "b.json", *b)
    combine(CombineConfig(runs, str(tasks), tmp_path / "out"))
    assert attempts_of(tmp_path / "out" / "submission.json", tasks) == expected


@given(st.lists(st.tuples(grids(2, 2), grids(2, 2)), min_size=2, max_size=4))
def test_any_submissions_give_two_different_attempts(answers: list[tuple[Grid, Grid]]) -> None:
    (query,) = small_task().queries
    first, second = choose_attempts(query, one_each(query, [{"small": [pair]} for pair in answers]))
    assert not same_grid(first, second) and same_grid(first, answers[0][0])
    given_grids = [grid for pair in answers for grid in pair]
    if any(not same_grid(grid, first) for grid in given_grids):
        assert any(same_grid(second, grid) for grid in given_grids)


def refused(error: type[ArcKaggleError], match: str, tasks: Path, *runs: Path, **options: Any) -> None:
    out = tasks.parent / "refused"
    with pytest.raises(error, match=match):
        combine(CombineConfig(runs, str(tasks), **{"out": out, **options}))
    assert not out.exists()


def test_runs_that_cannot_be_combined_are_refused(tmp_path: Path, tasks: Path) -> None:
    a, b = run_folder(tmp_path / "a", [ONE]), run_folder(tmp_path / "b", [TWO])
    file = submission(tmp_path / "c.json", ONE, TWO)
    other = submission(tmp_path / "d.json", ONE, TWO)
    refused(ConfigError, "two or more", tasks, a)
    refused(ConfigError, "each of them once", tasks, a, a)
    refused(ConfigError, "no such file or folder", tasks, a, tmp_path / "nowhere")
    refused(ConfigError, "only folders or only files", tasks, a, file)
    refused(ConfigError, "no log-probabilities", tasks, file, other, by="log_prob")
    refused(ConfigError, "among the runs", tasks, a, b, out=a, overwrite=True)
    refused(ConfigError, "among the runs", tasks, a / "predictions", b, out=a, overwrite=True)
    refused(ConfigError, "there already", tasks, a, b, out=file)
    refused(ConfigError, "cannot be written", tasks, a, b, out=file / "below")


def test_other_tasks_and_damage_are_named(tmp_path: Path, tasks: Path) -> None:
    good, empty = run_folder(tmp_path / "good", [ONE]), run_folder(tmp_path / "empty", [])
    stranger = run_folder(tmp_path / "stranger", [ONE], task_id="elsewhere")
    beyond = run_folder(tmp_path / "beyond", [ONE], query=1)
    renamed = run_folder(tmp_path / "renamed", [ONE])
    (renamed / "predictions" / "small.jsonl").rename(renamed / "predictions" / "other.jsonl")
    damaged = run_folder(tmp_path / "damaged", [ONE])
    (damaged / "predictions" / "small.jsonl").write_text("{]\n", encoding="utf-8")
    refused(SubmissionError, "empty: found no predictions", tasks, good, empty)
    refused(SubmissionError, "stranger: task elsewhere: found no such task among 2", tasks, good, stranger)
    refused(SubmissionError, r"beyond: task small: found query 1, expected 0..0", tasks, good, beyond)
    refused(SubmissionError, "renamed: other.jsonl: found a prediction for task small", tasks, good, renamed)
    refused(SubmissionError, "run .*damaged: small.jsonl, line 1", tasks, good, damaged)


def two_tasks(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A file of the tasks a and b, and answers to them; what a simple rule proves is among neither."""
    pairs = [{"input": [[1, 2]], "output": [[1, 2]]}, {"input": [[3]], "output": [[3]]}]
    path = folder / "two.json"
    path.write_text(json.dumps({key: {"train": pairs, "test": [{"input": [[4, 5]]}]} for key in "ab"}))
    return path, {"a": [{"attempt_1": [[1]], "attempt_2": [[2]]}], "b": [{"attempt_1": [[3]], "attempt_2": [[3]]}]}


def test_submissions_that_share_no_task_are_put_together_as_they_are(tmp_path: Path) -> None:
    path, answers = two_tasks(tmp_path)
    runs = tuple(tmp_path / f"{task_id}.json" for task_id in "ba")
    for run in runs:
        run.write_text(json.dumps({run.stem: answers[run.stem]}))
    found = combine(CombineConfig(runs, str(path), tmp_path / "whole.json"))
    assert json.loads((tmp_path / "whole.json").read_text()) == answers
    assert list(json.loads((tmp_path / "whole.json").read_text())) == ["a", "b"]
    assert "2 of 2 test inputs answered" in found.text


def test_submissions_that_share_a_task_and_lack_another_are_refused(tmp_path: Path) -> None:
    path, answers = two_tasks(tmp_path)
    (tmp_path / "both.json").write_text(json.dumps(answers))
    (tmp_path / "a.json").write_text(json.dumps({"a": answers["a"]}))
    (tmp_path / "again.json").write_text(json.dumps({"a": answers["a"]}))
    for other in ("both.json", "again.json"):
        match = "run .*a.json: found no answer for 1 tasks, the first is b, expected all tasks in each submission, or"
        refused(SubmissionError, match, path, tmp_path / "a.json", tmp_path / other)


def test_a_submission_for_other_tasks_is_named(tmp_path: Path, tasks: Path) -> None:
    good = submission(tmp_path / "good.json", ONE, TWO)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"elsewhere": []}), encoding="utf-8")
    refused(SubmissionError, "run .*/other.json: .*found answers for none of 2 tasks", tasks, good, other)
