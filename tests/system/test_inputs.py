"""Files of others are checked before they are read, whichever command reads them."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_kaggle.answering.candidates import read_prediction_folder
from arc_kaggle.answering.submission import read_submission
from arc_kaggle.config.model import recipe_of
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.evaluation.columns import Evaluation
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.kaggle.bundle.manifest import open_bundle
from arc_kaggle.models.card import read_card
from arc_kaggle.models.memory_formulas import read_shape
from arc_kaggle.system.inputs import read_input_file, read_input_lines, read_json_file


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.json.xz"])
def test_a_file_is_read_whole_up_to_a_limit(tmp_path: Path, name: str) -> None:
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(name[-3:], bytes)
    (tmp_path / name).write_bytes(pack(b"x" * 1000))
    assert read_input_file(tmp_path / name, 1000) == b"x" * 1000
    with pytest.raises(OSError, match="it is longer than 999 bytes"):
        read_input_file(tmp_path / name, 999)


def test_a_small_archive_of_much_does_not_fill_the_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    with pytest.raises(OSError, match="it is longer than 1000000 bytes"):
        read_input_file(tmp_path / "bomb.gz", 1_000_000)


def test_a_line_that_never_ends_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc_kaggle.system.inputs.MOST_LETTERS_A_LINE", 10)
    (tmp_path / "a.jsonl").write_text("1234567890\n12345678901\n")
    lines = read_input_lines(tmp_path / "a.jsonl")
    with pytest.raises(OSError, match="a line is longer than 10 letters"):
        list(lines)


@pytest.mark.parametrize(("data", "value"), [(b"\xef\xbb\xbf{}", {}), (b"[NaN]", None), (b"[1, 2]", [1, 2])])
def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, data: bytes, value: object) -> None:
    (tmp_path / "a.json").write_bytes(data)
    found = read_json_file(tmp_path / "a.json")
    assert found == value if value is not None else found[0] != found[0]


def test_json_that_is_nested_too_deeply_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json_file(tmp_path / "a.json")


def read_weights(path: Path) -> object:
    (path.parent / "config.json").write_text('{"model_type": "llama"}')
    return read_shape(path.parent)


def judge_model(path: Path) -> object:
    (path.parent / "config.json").write_text('{"model_type": "llama"}')
    return find_model_folders([path.parent])


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "submission": ("submission.json", lambda path: read_submission(path, [])),
    "card": ("arc_kaggle.json", lambda path: read_card(path.parent)),
    "recipe in a card": ("arc_kaggle.json", lambda path: recipe_of(path.parent)),
    "model config": ("config.json", lambda path: read_shape(path.parent)),
    "evaluation": ("evaluation.json", Evaluation.read),
    "weights": ("model.safetensors", read_weights),
    "weights to judge": ("model.safetensors", judge_model),
    "predictions": ("a.jsonl", lambda path: read_prediction_folder(path.parent)),
    "manifest": ("manifest.json", lambda path: open_bundle(path.parent)),
}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize(("name", "read"), READERS.values(), ids=READERS)
def test_no_reader_waits_for_a_pipe_or_reads_a_device(
    tmp_path: Path, name: str, read: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises((ArcKaggleError, OSError), match=name):
        read(path)


@pytest.mark.parametrize("kind", ["deep", "long"])
@pytest.mark.parametrize("reader", ["submission", "card", "recipe in a card", "model config", "evaluation"])
def test_no_reader_fails_at_what_is_too_deep_or_too_long(tmp_path: Path, reader: str, kind: str) -> None:
    name, read = READERS[reader]
    if kind == "deep":
        (tmp_path / name).write_text("[" * 100_000)
    else:
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # sparse
    with pytest.raises(ArcKaggleError, match=name):
        read(tmp_path / name)
