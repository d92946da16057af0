"""Where tasks come from and how they are selected."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TASK_JSON, WriteJson

from arc_kaggle.errors import GridError, TaskError
from arc_kaggle.tasks.dataset import load_pair_file, load_solutions_json, load_tasks, prompt_length, select_tasks
from arc_kaggle.tasks.task import Task, task_from_json, task_to_json

UNSOLVED = {"train": TASK_JSON["train"], "test": [{"input": [[5, 6]]}]}
SOLUTION = [[[7]]]
SOLVED = {"train": TASK_JSON["train"], "test": [{"input": [[5, 6]], "output": [[7]]}]}
MOUNTS = ["input/competitions/arc-prize", "input/arc-prize", "."]


def ids(tasks: tuple[Task, ...]) -> list[str]:
    return [task.id for task in tasks]


def write_competition(write_json: WriteJson, folder: str) -> None:
    """The files of a competition; each split has one task, whose id is the name of the split."""
    for split in ("training", "evaluation", "test"):
        write_json(f"{folder}/arc-agi_{split}_challenges.json", {split: UNSOLVED})
    for split in ("training", "evaluation"):
        write_json(f"{folder}/arc-agi_{split}_solutions.json", {split: SOLUTION})
    write_json(f"{folder}/sample_submission.json", {"test": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})


@pytest.mark.parametrize(
    ("name", "n_tasks", "known_id"),
    [
        ("arc1:training", 400, "007bbfb7"),
        ("arc1:evaluation", 400, "00576224"),
        ("arc2:training", 1000, "007bbfb7"),
        ("arc2:evaluation", 120, "0934a4d8"),
    ],
)
def test_named_sets(name: str, n_tasks: int, known_id: str) -> None:
    tasks = load_tasks(name)
    assert len(set(ids(tasks))) == len(tasks) == n_tasks
    assert known_id in ids(tasks)
    assert all(task.has_solution and len(task.train) >= 2 for task in tasks)


@pytest.mark.parametrize("name", ["arc3:training", "arc1:test", "arc1:train", "arc9:x"])
def test_an_unknown_set_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(TaskError, match=f"^task set '{name}': no such set, expected one of arc1:training, arc1:eval"):
        load_tasks(name)


@pytest.mark.parametrize("name", ["nowhere", "nowhere:training", "a" * 300, "a\0b"])
def test_a_missing_path_is_told_the_named_sets(name: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="found no such file or folder, and it is none of the named sets arc1:training"):
        load_tasks(f"{tmp_path}/{name}")


def test_challenges_without_solutions(write_json: WriteJson) -> None:
    tasks = load_tasks(write_json("my_challenges.json", {"a": UNSOLVED, "b": SOLVED}))
    assert [task_to_json(task) for task in tasks] == [UNSOLVED, SOLVED]
    assert ids(tasks) == ["a", "b"]


def test_challenges_with_solutions_beside_them(write_json: WriteJson) -> None:
    write_json("my_solutions.json", {"a": SOLUTION, "unused": []})
    (task,) = load_tasks(write_json("my_challenges.json", {"a": UNSOLVED}))
    assert task_to_json(task) == SOLVED


def test_solutions_that_lack_a_task(write_json: WriteJson) -> None:
    write_json("my_solutions.json", {"b": SOLUTION})
    with pytest.raises(TaskError, match="task a, solutions: found a list of 0, expected 1 grids"):
        load_tasks(write_json("my_challenges.json", {"a": UNSOLVED}))


def test_one_task_file_has_the_id_of_its_name(write_json: WriteJson) -> None:
    (task,) = load_tasks(write_json("007bbfb7.json", TASK_JSON))
    assert task.id == "007bbfb7"
    assert task_to_json(task) == TASK_JSON


def test_a_folder_of_task_files_is_read_in_order_of_names(write_json: WriteJson, tmp_path: Path) -> None:
    for name in ("b.json", "c.json", "a.json"):
        write_json(name, TASK_JSON)
    (tmp_path / "README.md").write_text("no task")
    assert ids(load_tasks(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize(
    ("behind", "found", "solved"),
    [
        ("", "test", False),
        (":test", "test", False),
        (":training", "training", True),
        (":evaluation", "evaluation", True),
    ],
)
def test_a_competition_is_found_by_its_content(
    write_json: WriteJson, tmp_path: Path, mount: str, behind: str, found: str, solved: bool
) -> None:
    write_competition(write_json, mount)
    write_json("input/another-data-set/prices.json", {"bread": 2})
    (task,) = load_tasks(f"{tmp_path}{behind}")
    assert task.id == found
    assert task_to_json(task) == (SOLVED if solved else UNSOLVED)


def test_two_competitions_are_refused_by_name(write_json: WriteJson, tmp_path: Path) -> None:
    for mount in MOUNTS[:2]:
        write_competition(write_json, mount)
    with pytest.raises(TaskError, match=r"found 2 competitions .*expected one; name one of them") as caught:
        load_tasks(tmp_path)
    assert all(f"{tmp_path / mount}/arc-agi_test_challenges.json" in str(caught.value) for mount in MOUNTS[:2])
    assert ids(load_tasks(tmp_path / MOUNTS[1])) == ["test"]


def test_a_competition_too_deep_is_not_searched_for(write_json: WriteJson, tmp_path: Path) -> None:
    write_competition(write_json, "1/2/3/4/5")
    with pytest.raises(TaskError, match=r"found no \*_test_challenges.json below it and no task files in it"):
        load_tasks(tmp_path)


def test_another_split_is_never_read_in_place_of_a_missing_one(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("arc-agi_training_challenges.json", {"a": UNSOLVED})
    with pytest.raises(TaskError, match=r"found no \*_evaluation_challenges.json"):
        load_tasks(f"{tmp_path}:evaluation")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b'{"a": 1} x', "expected JSON"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b'{"a": NaN}', "found NaN, expected JSON"),
        (b'{"a": -Infinity}', "found -Infinity, expected JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' appears twice, expected JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "expected JSON"),
        (b'{"\xff": 1}', "byte 2 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "found list, expected an object of tasks or one task"),
        (b"{}", "found dict, expected an object of tasks or one task"),
        (b"null", "found NoneType, expected an object of tasks or one task"),
        (b'{"a": 1}', 'task a: found 1, expected an object with "train" and "test"'),
        (b'{"train": []}', 'task train: found a list of 0, expected an object with "train" and "test"'),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(TaskError) as caught:
        load_tasks(path)
    assert "broken.json: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_folder_with_a_task_file_s_name_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(TaskError, match=r"a.json: cannot be read \(Is a directory\)"):
        load_tasks(tmp_path)


@pytest.mark.parametrize("value", [[], None, "a"])
def test_malformed_solutions_are_named(write_json: WriteJson, value: Any) -> None:
    with pytest.raises(
        TaskError, match=r"my_solutions.json: found \w+, expected an object of task id -> list of grids"
    ):
        load_solutions_json(write_json("my_solutions.json", value))


def make_task(task_id: str, size: int) -> Task:
    pair = {"input": [[0] * size], "output": [[0]]}
    return task_from_json(task_id, {"train": [pair], "test": [pair, {"input": [[0]]}]})


FIVE = (make_task("a", 3), make_task("b", 1), make_task("c", 2), make_task("d", 1), make_task("12", 9))


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("", ["a", "b", "c", "d", "12"]),
        ("c", ["c"]),
        ("d,a", ["d", "a"]),
        ("d, a", ["d", "a"]),
        ("0", ["a"]),
        ("-1", ["12"]),
        ("-5", ["a"]),
        ("12", ["12"]),  # an id comes before a position
        ("1:3", ["b", "c"]),
        (":2", ["a", "b"]),
        ("-2:", ["d", "12"]),
        ("::2", ["a", "c", "12"]),
        ("::-1", ["12", "d", "c", "b", "a"]),
        ("7:9", []),
        ("shortest:3", ["b", "d", "c"]),  # a tie is broken by id
        ("shortest:99", ["b", "d", "c", "a", "12"]),
        ("shortest:0", []),
    ],
)
def test_selection(select: str, expected: list[str]) -> None:
    assert ids(select_tasks(FIVE, select)) == expected


def test_tasks_are_selected_as_they_are_loaded(write_json: WriteJson) -> None:
    path = write_json("my_challenges.json", {"a": UNSOLVED, "b": UNSOLVED, "c": UNSOLVED})
    assert ids(load_tasks(path, "1:")) == ["b", "c"]


@pytest.mark.parametrize(
    "select", ["x", "a,x", "a,", "5", "-6", "-:2", "1:-", "::0", "1:2:3:4", "shortest:", "shortest:-1"]
)
def test_a_selection_that_selects_nothing_known_is_refused(select: str) -> None:
    with pytest.raises(TaskError) as caught:
        select_tasks(FIVE, select)
    assert str(caught.value).startswith(f"selection {select!r}: found no task ")
    assert "among 5, expected an id, a list of ids, a position, a slice such as 0:20" in str(caught.value)


@given(st.text("0123456789:-,a ", max_size=6))
def test_any_selection_selects_or_is_refused(select: str) -> None:
    try:
        chosen = select_tasks(FIVE, select)
    except TaskError as error:
        assert repr(select) in str(error)
    else:
        assert set(chosen) <= set(FIVE)


def test_prompt_length_counts_cells_and_rows_of_the_longest_query() -> None:
    train = {"input": [[0, 0], [0, 0]], "output": [[0]]}  # 6 and 2 symbols
    tests = [{"input": [[0, 0, 0]], "output": [[0] * 30]}, {"input": [[0]]}]  # 4 and 2 symbols, outputs not asked
    assert prompt_length(task_from_json("a", {"train": [train, train], "test": tests})) == 20


PAIR_LINES = [{"task": "r1", "pairs": [[[[1]], [[2, 3]]], [[[4]], [[5]]]]}, {"task": "r2", "pairs": [[[[6]], [[7]]]]}]


@pytest.mark.parametrize("name", ["rules.jsonl", "rules.jsonl.xz"])
def test_pair_files_are_read_plain_and_compressed(tmp_path: Path, name: str) -> None:
    text = "".join(json.dumps(line) + "\n" for line in PAIR_LINES).encode()
    (tmp_path / name).write_bytes(lzma.compress(text) if name.endswith(".xz") else text)
    rules = list(load_pair_file(tmp_path / name))
    assert [rule for rule, _ in rules] == ["r1", "r2"]
    grids = [[[pair.input, pair.output] for pair in pairs] for _, pairs in rules]
    assert [[[grid.tolist() for grid in pair if grid is not None] for pair in pairs] for pairs in grids] == [
        line["pairs"] for line in PAIR_LINES
    ]


@pytest.mark.parametrize(
    "line",
    ["", "[]", "3", "{}", '{"task": "a"}', '{"task": "a", "pairs": 3}', '{"task": "a", "pairs": [[1]]}', "[" * 5000],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rules.jsonl"
    path.write_text(json.dumps(PAIR_LINES[0]) + "\n" + line + "\n")
    with pytest.raises(TaskError, match=r'^rules.jsonl, line 2: .*, expected {"task": id, "pairs": '):
        list(load_pair_file(path))


def test_a_wrong_grid_in_a_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.jsonl"
    path.write_text('{"task": "a", "pairs": [[[[1]], [[2]]], [[[1]], [[2, 10]]]]}\n')
    with pytest.raises(GridError, match=r"^rules.jsonl, line 1, pair 1, output, row 0, column 1: found 10 \(int\)"):
        list(load_pair_file(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b"\xff\n"), ("a.jsonl.xz", b"no archive"), ("a.jsonl.xz", lzma.compress(b'{"task": "a"}' * 99)[:-9])],
)
def test_a_pair_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=f"{name}: cannot be read"):
        list(load_pair_file(tmp_path / name))


def test_a_missing_pair_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"missing.jsonl: cannot be read \(.*No such file"):
        list(load_pair_file(tmp_path / "missing.jsonl"))
