"""Names of files, and removal below a folder."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_kaggle.system.paths import LONGEST_NAME, remove_below, replaced_folder, safe_name

TEXTS = st.text(st.characters(), max_size=8) | st.text("aA./\\%\0-é\ud800", max_size=60)


@pytest.mark.parametrize("task_id", ["00576224", "007bbfb7", "t00", "synth_3-a"])
def test_plain_ids_are_their_own_names(task_id: str) -> None:
    assert safe_name(task_id) == task_id


@given(TEXTS.filter(bool))
def test_a_short_name_gives_its_text_back(text: str) -> None:
    name = safe_name(text)
    if "%-" not in name:
        assert unquote(name, errors="surrogatepass") == text


@given(st.lists(TEXTS | st.text("aB", min_size=90, max_size=300), min_size=2, max_size=6, unique=True))
def test_different_texts_have_different_names_whatever_the_case(texts: list[str]) -> None:
    names = [safe_name(text) for text in texts]
    assert len({name.casefold() for name in names}) == len(texts)
    assert all(re.fullmatch("[a-z0-9_%-]+", name) and len(name) <= LONGEST_NAME for name in names)


@pytest.mark.parametrize("text", ["", ".", "..", "../../evil", "a" * 300, "\ud800", "nul\0", "A" * 40])
def test_any_name_can_be_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{safe_name(text)}.jsonl.damaged"
    path.write_text("written")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_what_is_below_is_removed(tmp_path: Path) -> None:
    (tmp_path / "root" / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "root" / "file").write_text("")
    for name in ("folder", "file", "absent"):
        remove_below(tmp_path / "root", tmp_path / "root" / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "root"]
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../victim", "inner/../../victim", "/", "../root-2"])
def test_what_is_not_below_stays(tmp_path: Path, name: str) -> None:
    for folder in ("root/inner", "victim", "root-2"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(OSError, match=r"it is not below .*root and is not removed"):
        remove_below(tmp_path / "root", tmp_path / "root" / name)
    assert {path.name for path in tmp_path.rglob("*")} == {"root", "inner", "victim", "root-2"}


@pytest.mark.parametrize("name", ["link", "link/inner", "link/inner/file", "dangling"])
def test_links_are_not_removed_nor_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "victim" / "inner").mkdir(parents=True)
    (tmp_path / "victim" / "inner" / "file").write_text("precious")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "root" / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="it is a link and is not removed"):
        remove_below(tmp_path / "root", tmp_path / "root" / name)
    assert (tmp_path / "root" / "link" / "inner" / "file").read_text() == "precious"
    assert (tmp_path / "root" / "dangling").is_symlink()


def test_a_root_that_is_a_link_itself_is_the_caller_s_choice(tmp_path: Path) -> None:
    (tmp_path / "disk" / "mine").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "disk")
    remove_below(tmp_path / "root", tmp_path / "root" / "mine")
    assert list((tmp_path / "disk").iterdir()) == []


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("before", [None, {}, {"config.json": "old", "weights": "old"}])
def test_a_folder_like_the_new_one_is_replaced_as_a_whole(tmp_path: Path, before: dict[str, str] | None) -> None:
    out = tmp_path / "deep" / "model"
    if before is not None:
        out.mkdir(parents=True)
    for name, text in (before or {}).items():
        (out / name).write_text(text)
    with replaced_folder(out, "config.json") as folder:
        (folder / "config.json").write_text("new")
        assert contents(out) == (before or {})
    assert contents(tmp_path) == {"deep/model/config.json": "new"}


def test_where_the_new_folder_fails_the_old_one_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("old")
    with pytest.raises(KeyError), replaced_folder(tmp_path / "model", "config.json") as folder:
        (folder / "config.json").write_text("new")
        raise KeyError
    assert contents(tmp_path) == {"model/config.json": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("names", [["notes.txt"], ["config.json", "checkpoints/config.json"], [".git/config.json"]])
def test_a_folder_that_holds_more_is_not_replaced(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_text("precious")
    with (
        pytest.raises(FileExistsError, match=r"it holds more than a folder with config.json and is not removed"),
        replaced_folder(tmp_path / "home", "config.json"),
    ):
        pytest.fail("never begun")
    assert contents(tmp_path / "home") == dict.fromkeys(names, "precious")
