"""10,000 malformed inputs: each loads exactly, or is refused with a named error, and nothing else ever happens."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from strategies import TASK_JSON, prediction

from arc_kaggle.answering.candidates import read_prediction_folder
from arc_kaggle.errors import ArcKaggleError, DecodeError
from arc_kaggle.system.files import append_lines
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.grid import as_grid, grid_lists
from arc_kaggle.tasks.selection import select_tasks, selection_of
from arc_kaggle.tasks.task import Pair, Task, task_from_json
from arc_kaggle.text.encoders import DECODE_REASONS, MinimalGridEncoder

N_VALUES, N_CHALLENGES, N_SOLUTIONS, N_PAIR_LINES, N_PAIR_ARCHIVES, N_TEXTS = 4500, 1000, 750, 750, 500, 2500
ODD_VALUES: list[Any] = [
    *(None, True, False, -1, 10, 256, 2**70, 0.0, 1.5, float("nan"), float("inf"), "", "1", "input", "\ud800"),
    *([], [[]], [[[]]], {}, {"input": [[1]]}, {"train": []}, [0] * 31, [[0]] * 31, [[0] * 31], [[1, 2], [3]], ["12"]),
]
ODD_BYTES = [*(bytes([byte]) for byte in b'\x00\xff\xc3[]{},:"-\n'), b"NaN", b"1e9", b"[" * 3000]
ODD_TEXT = ["", *"09\n \t\r-a.\x00\u0663\u00b2\uff11\ud800", "\n\n", "\n" * 31, "5" * 31]


def test_ten_thousand_inputs_are_tried() -> None:
    assert N_VALUES + N_CHALLENGES + N_SOLUTIONS + N_PAIR_LINES + N_PAIR_ARCHIVES + N_TEXTS == 10_000


def outcomes(inputs: Iterator[Any], read: Callable[[Any], None]) -> Counter[str]:
    """How often each named error was raised, and how often none was; `read` asserts that what it loads is exact."""
    counts: Counter[str] = Counter()
    for value in inputs:
        try:
            read(value)
            counts["loaded"] += 1
        except ArcKaggleError as error:
            assert str(error)
            counts[type(error).__name__] += 1
        except Exception as error:
            error.add_note(f"input: {value!r:.2000}")
            raise
    return counts


def mutated_value(rng: random.Random, value: Any) -> Any:
    """A copy of a JSON value with one of its parts, at any depth, replaced, removed or doubled."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or rng.random() < 0.1:
        return rng.choice([*ODD_VALUES, rng.randrange(10)])
    key, copy = rng.choice(keys), value.copy()
    action = rng.random()
    if action < 0.1:
        del copy[key]
    elif action < 0.2 and isinstance(copy, list):
        copy.insert(key, copy[key])
    else:
        copy[key] = mutated_value(rng, copy[key])
    return copy


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """The same bytes, some of them replaced, removed, inserted or doubled."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.choice([0, 1, 1, 2, 10, 1000]))
        middle = rng.choice(
            [b"", rng.choice(ODD_BYTES), rng.randbytes(1), b"%d" % rng.randrange(12), content[start:stop] * 2]
        )
        content = content[:start] + middle + content[stop:]
    return content


def mutated_text(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 2)):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice([0, 1, 1, 2, 1000]))
        middle = rng.choice([rng.choice(ODD_TEXT), rng.choice("0123456789"), text[start:stop] * 2])
        text = text[:start] + middle + text[stop:]
    return text


def as_read(pairs: tuple[Pair, ...]) -> list[tuple[Any, Any]]:
    return [(grid_lists(p.input), None if p.output is None else grid_lists(p.output)) for p in pairs]


def assert_exact(task: Task, value: Any, solutions: Any = None) -> None:
    """The task holds what the JSON value holds; `repr` tells 1 from True and 1.0."""
    train, test = ([(pair["input"], pair.get("output")) for pair in value[part]] for part in ("train", "test"))
    if solutions is not None:
        test = [(grid, output) for (grid, _), output in zip(test, solutions, strict=True)]
    assert repr(as_read(task.train)) == repr(train)
    assert repr(as_read(task.test)) == repr(test)


def test_task_values_load_exactly_or_are_refused() -> None:
    def read(value: Any) -> None:
        try:
            assert_exact(task_from_json("007bbfb7", value, where="a.json"), value)
        except ArcKaggleError as error:
            assert str(error).startswith("a.json: task 007bbfb7")
            raise

    rng = random.Random(0)
    counts = outcomes((mutated_value(rng, TASK_JSON) for _ in range(N_VALUES)), read)
    assert set(counts) == {"loaded", "TaskError", "GridError"}
    assert counts["TaskError"] > N_VALUES // 4
    assert counts["GridError"] > N_VALUES // 4


def test_challenge_files_load_exactly_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "puzzles.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            tasks = load_tasks(path)
        except ArcKaggleError as error:
            assert "puzzles.json" in str(error)
            raise
        value = json.loads(content)
        value = {"puzzles": value} if {"train", "test"} <= value.keys() else value
        assert [task.id for task in tasks] == list(value)
        for task in tasks:
            assert_exact(task, value[task.id])

    rng = random.Random(1)
    content = json.dumps({"a": TASK_JSON, "b": TASK_JSON}).encode()
    counts = outcomes((mutated_bytes(rng, content) for _ in range(N_CHALLENGES)), read)
    assert set(counts) == {"loaded", "TaskError", "GridError"}
    assert counts["TaskError"] > N_CHALLENGES // 2


def test_solution_files_load_exactly_or_are_refused(tmp_path: Path) -> None:
    path, beside = tmp_path / "my_challenges.json", tmp_path / "my_solutions.json"
    asked = {**TASK_JSON, "test": [{"input": pair["input"]} for pair in TASK_JSON["test"]]}
    path.write_text(json.dumps({"a": asked}))

    def read(content: bytes) -> None:
        beside.write_bytes(content)
        (task,) = load_tasks(path)
        assert_exact(task, TASK_JSON, json.loads(content)["a"])

    rng = random.Random(2)
    content = json.dumps({"a": [[[6, 0], [5, 7]]], "b": [[[1]]]}).encode()
    counts = outcomes((mutated_bytes(rng, content) for _ in range(N_SOLUTIONS)), read)
    assert set(counts) == {"loaded", "TaskError", "GridError"}
    assert counts["TaskError"] > N_SOLUTIONS // 2


@pytest.mark.parametrize(("name", "n_inputs"), [("r.jsonl", N_PAIR_LINES), ("r.jsonl.xz", N_PAIR_ARCHIVES)])
def test_pair_files_load_exactly_or_are_refused(tmp_path: Path, name: str, n_inputs: int) -> None:
    path = tmp_path / name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            rules = list(load_rules(path))
        except ArcKaggleError as error:
            assert name in str(error)
            raise
        text = lzma.decompress(content) if name.endswith(".xz") else content
        lines = [json.loads(line) for line in text.decode().splitlines()]
        assert [rule for rule, _ in rules] == [str(line.get("task", f"r-{i}")) for i, line in enumerate(lines, start=1)]
        for (_, pairs), line in zip(rules, lines, strict=True):
            assert repr(as_read(pairs)) == repr([(a, b) for a, b in line["pairs"]])

    rng = random.Random(3)
    line = json.dumps({"task": "007bbfb7", "pairs": [[[[1, 2]], [[3]]], [[[4]], [[5], [6]]]]}) + "\n"
    content = lzma.compress(line.encode() * 2) if name.endswith(".xz") else line.encode() * 2
    counts = outcomes((mutated_bytes(rng, content) for _ in range(n_inputs)), read)
    assert set(counts) <= {"loaded", "TaskError", "GridError"}
    assert counts["TaskError"] > n_inputs // 2


def test_texts_decode_and_encode_to_the_same_text_or_are_refused() -> None:
    encoder = MinimalGridEncoder()
    reasons: Counter[str] = Counter()

    def read(text: str) -> None:
        try:
            grid = encoder.decode(text)
        except DecodeError as error:
            reasons[error.reason] += 1
            raise
        assert encoder.encode(as_grid(grid)) == text

    def texts() -> Iterator[str]:
        rng = random.Random(4)
        for _ in range(N_TEXTS):
            height, width = rng.choice([1, 2, 5, 29, 30]), rng.choice([1, 2, 5, 29, 30])
            rows = ["".join(rng.choices("0123456789", k=width)) for _ in range(height)]
            yield mutated_text(rng, "\n".join(rows))

    counts = outcomes(texts(), read)
    assert set(counts) == {"loaded", "DecodeError"}
    assert counts["DecodeError"] > N_TEXTS // 2
    assert set(reasons) <= set(DECODE_REASONS)
    assert len(reasons) >= 3


ODD_LETTERS = './\\\0\n%,:["aA0\ud800\u202e '


def odd_id(rng: random.Random) -> str:
    return "".join(rng.choices(ODD_LETTERS, k=rng.choice([0, 1, 2, 3, 8, 300])))


def test_any_id_becomes_one_file_of_its_own_and_is_read_back(tmp_path: Path) -> None:
    rng = random.Random(5)
    ids = list(dict.fromkeys(odd_id(rng) for _ in range(500)))
    folder = tmp_path / "predictions"
    folder.mkdir()
    for task_id in ids:
        found = prediction([[1]], task_id=task_id)
        append_lines(folder / f"{safe_name(task_id)}.jsonl", [found.to_json()])
    assert sorted(path.name.casefold() for path in folder.iterdir()) == sorted(f"{safe_name(i)}.jsonl" for i in ids)
    assert list(tmp_path.iterdir()) == [folder]
    assert sorted(read_prediction_folder(folder)) == sorted(ids)


def test_tasks_of_any_ids_are_loaded_and_selected(tmp_path: Path) -> None:
    rng, path = random.Random(6), tmp_path / "tasks.json"
    for _ in range(100):
        ids = list(dict.fromkeys(odd_id(rng) for _ in range(5)))
        path.write_text(json.dumps(dict.fromkeys(ids, TASK_JSON)))
        tasks = load_tasks(path)
        assert [task.id for task in tasks] == ids
        chosen = rng.sample(tasks, rng.randint(1, len(tasks)))
        assert select_tasks(tasks, selection_of(chosen)) == tuple(chosen)
        assert all(repr(task).isprintable() for task in tasks)


def odd_folder(rng: random.Random, root: Path) -> Path:
    """A few files and folders that may be tasks, by names that people give and contents that are damaged."""
    content = {"a": TASK_JSON, "b": TASK_JSON}
    values = [TASK_JSON, content, [*TASK_JSON["train"]], {"examples": [[[[1]], [[2]]], [[[3]], [[4]]]]}, [content], 3]
    names = ["a.json", "b.jsonl", "c.json.gz", "d.jsonl.xz", "x_challenges.json", "x_solutions.json", "metadata.json"]
    for name in rng.sample(names, rng.randint(1, 4)):
        folder = root / rng.choice(["", "training", "tasks/deep"])
        folder.mkdir(parents=True, exist_ok=True)
        data = json.dumps(rng.choice(values)).encode() + b"\n"
        data = mutated_bytes(rng, data) if rng.random() < 0.3 else data
        packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(name[-3:], bytes)(data)
        kind = rng.random()
        if kind < 0.1:
            os.mkfifo(folder / name)
        elif kind < 0.2:
            (folder / name).mkdir()
        elif kind < 0.3:
            (folder / name).symlink_to(rng.choice(["/dev/zero", root, "nowhere"]))
        else:
            (folder / name).write_bytes(mutated_bytes(rng, packed) if rng.random() < 0.2 else packed)
    return root


def test_folders_load_or_are_refused_and_leave_out_what_is_bad(tmp_path: Path) -> None:
    rng = random.Random(7)
    folders = [odd_folder(rng, tmp_path / f"{i}") for i in range(400)]
    split = [f"{folder}{rng.choice(['', '', ':training'])}" for folder in folders]
    counts = outcomes(iter(split), lambda name: assert_all_known(load_tasks(name)))
    assert set(counts) <= {"loaded", "TaskError", "GridError"}
    assert min(counts["loaded"], counts["TaskError"]) > 40
    told: list[str] = []
    lenient = outcomes(
        iter(split), lambda name: assert_all_known(load_tasks(name, bad=lambda error: told.append(str(error))))
    )
    assert lenient["loaded"] > counts["loaded"]
    assert len(told) > 40 and all(told)


def assert_all_known(tasks: tuple[Task, ...]) -> None:
    assert tasks
    assert len({task.id for task in tasks}) == len(tasks)
    assert all(task.train and task.test for task in tasks)
