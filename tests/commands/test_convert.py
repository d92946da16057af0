"""Tasks in another form: what is written loads as what it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from strategies import TASK_JSON, WriteJson

from arc_kaggle.cli import main
from arc_kaggle.commands.convert import ConvertConfig, convert
from arc_kaggle.errors import ConfigError, TaskError
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.task import Task, task_to_json

PAIRS = [{"input": [[n]], "output": [[n, n]]} for n in range(6)]


def values(tasks: tuple[Task, ...]) -> dict[str, Any]:
    return {task.id: task_to_json(task) for task in tasks}


@pytest.mark.parametrize("form", ["kaggle", "files"])
@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_written_loads_as_what_it_was(tmp_path: Path, write_json: WriteJson, form: Any, is_known: bool) -> None:
    value = TASK_JSON if is_known else {**TASK_JSON, "test": [{"input": [[1]]}]}
    path = write_json("tasks.json", {"b": value, "a": value})
    convert(ConvertConfig(str(path), tmp_path / "out", form))
    assert values(load_tasks(tmp_path / "out")) == values(load_tasks(path))
    names = {"kaggle": ["out_challenges.json", "out_solutions.json"][: 1 + is_known], "files": ["a.json", "b.json"]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names[form]
    if form == "kaggle":
        challenges = json.loads((tmp_path / "out" / "out_challenges.json").read_text())
        assert not any("output" in pair for task in challenges.values() for pair in task["test"])


@pytest.mark.parametrize("name", ["rules.jsonl", "rules.jsonl.xz"])
def test_pair_files_hold_every_pair_of_the_source(tmp_path: Path, write_json: WriteJson, name: str) -> None:
    write_json("re_arc/a.json", PAIRS)
    write_json("re_arc/b.json", TASK_JSON)
    said = convert(ConvertConfig(str(tmp_path / "re_arc"), tmp_path / name, "pairs"))
    rules = dict(load_rules(tmp_path / name))
    assert {rule_id: len(pairs) for rule_id, pairs in rules.items()} == {"a": 6, "b": 3}
    assert "2 rules, 9 pairs" in said
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    convert(ConvertConfig(str(tmp_path / "re_arc"), tmp_path / "one.jsonl", "pairs", select="b"))
    assert [rule_id for rule_id, _ in load_rules(tmp_path / "one.jsonl")] == ["b"]


def test_one_pair_is_held_out_in_each_part(tmp_path: Path, write_json: WriteJson) -> None:
    path = write_json("tasks.json", {"a": {"train": PAIRS[:3], "test": [PAIRS[5]]}, "b": TASK_JSON})
    convert(ConvertConfig(str(path), tmp_path / "parts", "files", leave_one_out=True))
    found = values(load_tasks(tmp_path / "parts"))
    assert list(found) == ["a.0", "a.1", "a.2", "b.0", "b.1"]
    assert found["a.1"] == {"train": [PAIRS[0], PAIRS[2]], "test": [PAIRS[1]]}
    convert(ConvertConfig(str(path), tmp_path / "parts.jsonl", "pairs", "a", leave_one_out=True))
    assert {rule_id: len(pairs) for rule_id, pairs in load_rules(tmp_path / "parts.jsonl")} == dict.fromkeys(
        ("a.0", "a.1", "a.2"), 3
    )


@pytest.mark.parametrize("form", ["kaggle", "files", "pairs"])
def test_reversed_twice_is_as_it_was(tmp_path: Path, write_json: WriteJson, form: Any) -> None:
    path = write_json("tasks.json", {"a": TASK_JSON, "b": {"train": PAIRS[:3], "test": PAIRS[3:5]}})
    ending = ".jsonl" if form == "pairs" else ""
    first, second = tmp_path / f"first{ending}", tmp_path / f"second{ending}"
    convert(ConvertConfig(str(path), first, form, reverse=True))
    (pair,) = [pairs[0] for rule_id, pairs in load_rules(first) if rule_id == "a.reversed"]
    assert pair.output is not None
    assert (pair.input.tolist(), pair.output.tolist()) == (
        TASK_JSON["train"][0]["output"],
        TASK_JSON["train"][0]["input"],
    )
    convert(ConvertConfig(str(first), second, form, reverse=True))
    texts = [[repr(pairs) for _, pairs in load_rules(source)] for source in (path, second)]
    assert texts[0] == texts[1]


def test_what_cannot_be_converted_is_named(tmp_path: Path, write_json: WriteJson) -> None:
    unknown = {**TASK_JSON, "test": [{"input": [[1]]}]}
    mixed = str(write_json("mixed.json", {"a": TASK_JSON, "u": unknown, "../x": TASK_JSON, "A": TASK_JSON}))
    single = str(write_json("single.json", {"s": {"train": PAIRS[:1], "test": PAIRS[1:2]}}))
    out = tmp_path / "out"
    for config, kind, match in (
        (ConvertConfig(mixed, out), TaskError, "found 1 without all outputs, the first is u, expected all or none"),
        (ConvertConfig(mixed, out, reverse=True), TaskError, "task u: found a test input without output"),
        (ConvertConfig(mixed, out, "files", "../x"), TaskError, "'../x': it cannot be the name of a file; take --form"),
        (ConvertConfig(mixed, out, "files", "a,A"), TaskError, "'A': differs from 'a' by case alone; take --form"),
        (ConvertConfig(single, out, leave_one_out=True), TaskError, "found one train pair in each, expected two"),
        (ConvertConfig(mixed, out, "pairs"), ConfigError, r"expected a file .jsonl or .jsonl.xz for --form pairs"),
        (ConvertConfig(mixed, tmp_path), ConfigError, "found it there already; take another --out"),
        (ConvertConfig(single, Path(single) / "below"), ConfigError, r"cannot be written to \("),
    ):
        with pytest.raises(kind, match=match):
            convert(config)
        assert not out.exists()


def test_the_command_says_what_it_wrote_and_what_it_left_out(
    tmp_path: Path, write_json: WriteJson, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json("mini/good.json", TASK_JSON)
    write_json("mini/bad.json", {"train": 3})
    words = ["convert", str(tmp_path / "mini"), "--form", "files", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert main([*words, "--skip-bad"]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("out: 1 files of one task each\n")
    assert "arc-kaggle: left out: bad.json: task train: found 3" in printed.err
