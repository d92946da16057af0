"""Where tasks come from and how they are selected."""

from __future__ import annotations

import json
import lzma
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TASK_JSON, WriteJson

from arc_kaggle.errors import GridError, TaskError
from arc_kaggle.tasks.dataset import load_rules, load_solutions_json, load_tasks
from arc_kaggle.tasks.selection import prompt_length, select_tasks, selection_of
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
    with pytest.raises(TaskError, match=r"^my_solutions.json: found no solution of task a, which my_challenges.json"):
        load_tasks(write_json("my_challenges.json", {"a": UNSOLVED}))


def test_solutions_that_contradict_the_task_s_own_output(write_json: WriteJson) -> None:
    write_json("my_solutions.json", {"a": SOLUTION})
    path = write_json("my_challenges.json", {"a": {**SOLVED, "test": [{"input": [[5, 6]], "output": [[8]]}]}})
    with pytest.raises(TaskError, match=r"^my_solutions.json: task a, solution 0: differs from the output in the task"):
        load_tasks(path)


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
        (b"\xef\xbb\xbf[", "expected JSON"),
        (b'{"a": NaN}', "found NaN, expected JSON"),
        (b'{"a": -Infinity}', "found -Infinity, expected JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' appears twice, expected JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "expected JSON"),
        (b'{"\xff": 1}', "byte 2 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "found a list of 0, expected an object of tasks, one task, or a list of pairs or tasks"),
        (b"{}", "found an object with keys [], expected an object of tasks, one task, or a list of pairs or tasks"),
        (b"null", "found None, expected an object of tasks, one task, or a list of pairs or tasks"),
        (b'{"a": 1}', 'task a: found 1, expected an object with "train" and "test"'),
        (b'{"train": []}', "task broken: found an object with keys ['train'], expected an object with \"train\" and"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(TaskError) as caught:
        load_tasks(path)
    assert "broken.json: " in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(TaskError, match=r"cannot be read \(.*it is a pipe or a device, expected a file"):
            load_tasks(source)


def test_a_device_is_not_read() -> None:
    with pytest.raises(TaskError, match=r"^/dev/zero: cannot be read \(it is a pipe or a device, expected a file\)"):
        load_tasks("/dev/zero")


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(TaskError, match=r"a.json: cannot be read \(it is longer than 1073741824 bytes\)"):
        load_tasks(tmp_path / "a.json")


def test_a_split_behind_a_file_is_refused(write_json: WriteJson) -> None:
    path = write_json("tasks.json", {"a": SOLVED})
    with pytest.raises(TaskError, match=r"tasks.json:training': found a file, which is one set, expected a folder"):
        load_tasks(f"{path}:training")
    assert ids(load_tasks(write_json("tasks:training", {"b": SOLVED}))) == ["b"]


def test_a_split_behind_a_folder_of_task_files_names_a_folder(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("data/training/a.json", SOLVED)
    write_json("data/evaluation/b.json", SOLVED)
    assert ids(load_tasks(f"{tmp_path}/data:training")) == ["a"]
    assert ids(load_tasks(f"{tmp_path}/data")) == ["b", "a"]
    with pytest.raises(TaskError, match=r"found no \*_training_challenges.json below it .*, and no folder training"):
        load_tasks(f"{tmp_path}/data/evaluation:training")


def test_an_id_that_two_files_hold_is_refused(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("one/a.json", SOLVED)
    write_json("two.json", {"b": SOLVED, "a": UNSOLVED})
    with pytest.raises(TaskError, match=r"^two.json: found task a again, which one/a.json holds already"):
        load_tasks(tmp_path)


def test_challenges_of_no_split_are_found_in_their_folder(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("my_challenges.json", {"a": UNSOLVED})
    write_json("my_solutions.json", {"a": SOLUTION})
    assert [task_to_json(task) for task in load_tasks(tmp_path)] == [SOLVED]
    with pytest.raises(TaskError, match=r"found no \*_training_challenges.json below it"):
        load_tasks(f"{tmp_path}:training")


def test_what_is_bad_can_be_left_out_and_is_told(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("good.json", SOLVED)
    write_json("many.json", {"b": SOLVED, "c": {"train": 3, "test": 4}, "good": SOLVED})
    write_json("no-task.json", "x")
    (tmp_path / "lines.jsonl").write_text(json.dumps({"id": "d", **SOLVED}) + "\n{\n" + json.dumps(SOLVED) + "\n")
    (tmp_path / "torn.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(TaskError, match=r"^lines.jsonl, line 2: .*, expected JSON"):
        load_tasks(tmp_path)
    told: list[str] = []
    assert ids(load_tasks(tmp_path, bad=lambda error: told.append(str(error)))) == ["good", "d", "lines-3", "b"]
    assert [text.split(":")[0].removeprefix(f"{tmp_path}/") for text in told] == [
        *("lines.jsonl, line 2", "many.json", "no-task.json", "torn.jsonl.gz", "many.json")
    ]


def test_nothing_but_bad_files_is_an_error(write_json: WriteJson, tmp_path: Path) -> None:
    write_json("no-task.json", "x")
    with pytest.raises(TaskError, match="found none that can be read, expected one or more"):
        load_tasks(tmp_path, bad=lambda error: None)


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
        ("shortest:3", ["b", "d", "c"]),  # a tie is broken by id
        ("shortest:99", ["b", "d", "c", "a", "12"]),
        ('["d", "a"]', ["d", "a"]),
        ('["12"]', ["12"]),
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


@pytest.mark.parametrize("select", ["7:9", "shortest:0", "2:1", "[]"])
def test_a_selection_of_nothing_is_refused(select: str) -> None:
    with pytest.raises(TaskError, match=rf"^selection {re.escape(repr(select))}: selects none of 5 tasks"):
        select_tasks(FIVE, select)


@pytest.mark.parametrize("select", ["a,a", '["a", "b", "a"]'])
def test_a_task_that_is_named_twice_is_refused(select: str) -> None:
    with pytest.raises(TaskError, match=r"names a task twice, expected each id once"):
        select_tasks(FIVE, select)


@pytest.mark.parametrize("select", ["[", "[a]", "[3]", '["a", 3]', "[" * 3000])
def test_what_is_no_json_list_of_ids_is_refused(select: str) -> None:
    with pytest.raises(TaskError, match="found no task of this id and no JSON list of ids, expected an id, a list of"):
        select_tasks(FIVE, select)


def test_ids_with_commas_are_selected_as_a_json_list() -> None:
    tasks = [make_task(task_id, 1) for task_id in ("a", "b", "a,b", "[", "", " c", "\ud800")]
    for chosen in (tasks[:2], tasks[2:3], tasks[1:], tasks[5:]):
        assert select_tasks(tasks, selection_of(chosen)) == tuple(chosen)
    assert ids(select_tasks(tasks, "a,b")) == ["a,b"]
    assert ids(select_tasks(tasks, "b,a")) == ["b", "a"]


PAIR_LINES = [{"task": "r1", "pairs": [[[[1]], [[2, 3]]], [[[4]], [[5]]]]}, {"task": "r2", "pairs": [[[[6]], [[7]]]]}]


@pytest.mark.parametrize("name", ["rules.jsonl", "rules.jsonl.xz"])
def test_pair_files_are_read_plain_and_compressed(tmp_path: Path, name: str) -> None:
    text = "".join(json.dumps(line) + "\n" for line in PAIR_LINES).encode()
    (tmp_path / name).write_bytes(lzma.compress(text) if name.endswith(".xz") else text)
    rules = list(load_rules(tmp_path / name))
    assert [rule for rule, _ in rules] == ["r1", "r2"]
    grids = [[[pair.input, pair.output] for pair in pairs] for _, pairs in rules]
    assert [[[grid.tolist() for grid in pair if grid is not None] for pair in pairs] for pairs in grids] == [
        line["pairs"] for line in PAIR_LINES
    ]


@pytest.mark.parametrize(
    "line",
    [
        *("", "[]", "3", "{}", '{"task": "a"}', '{"task": "a", "pairs": 3}', '{"task": "a", "pairs": [[1]]}'),
        *('{"task": [], "pairs": [[[[1]], [[2]]]]}', '{"task": true}', "[" * 5000, '{"task": "a", "task": "b"}'),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rules.jsonl"
    path.write_text(json.dumps(PAIR_LINES[0]) + "\n" + line + "\n")
    with pytest.raises(TaskError, match=r"^rules.jsonl, line 2: .*, expected "):
        list(load_rules(path))


def test_a_wrong_grid_in_a_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rules.jsonl"
    path.write_text('{"task": "a", "pairs": [[[[1]], [[2]]], [[[1]], [[2, 10]]]]}\n')
    with pytest.raises(GridError, match=r"^rules.jsonl, line 1: task a, pair 1, output, row 0, column 1: found 10 \("):
        list(load_rules(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b"\xff\n"), ("a.jsonl.xz", b"no archive"), ("a.jsonl.xz", lzma.compress(b'{"task": "a"}' * 99)[:-9])],
)
def test_a_pair_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=f"{name}: cannot be read"):
        list(load_rules(tmp_path / name))


def test_a_missing_pair_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"missing.jsonl': found no such file or folder"):
        list(load_rules(tmp_path / "missing.jsonl"))
