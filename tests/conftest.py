"""Shared set-up: one thread of mathematics for each process, and hypothesis draws the same examples on every run."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from imports import may_load_torch
from strategies import WriteJson

from arc_kaggle.system.collector import collector_paused
from arc_kaggle.system.hardware import n_cores

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
for name, value in {**ONE_THREAD, "TOKENIZERS_PARALLELISM": "false"}.items():
    os.environ.setdefault(name, value)  # before anything imports torch; child processes inherit it

settings.register_profile("arc_kaggle", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("arc_kaggle")


MOST_JOBS = 8
"""Each holds a gigabyte or two."""


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be absent where a file is tested by itself
def pytest_xdist_auto_num_workers() -> int:
    """Test processes of `pytest -n auto`: one more than cores, for many a test waits for processes of its own."""
    return min(MOST_JOBS, n_cores() + 1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m "not torch"` does not even import a file whose tests may load torch."""
    without = "not torch" in config.getoption("markexpr") and collection_path.match("test_*.py")
    return (without and may_load_torch(collection_path)) or None


def pytest_runtest_teardown(item: pytest.Item) -> None:
    if "not torch" in item.config.getoption("markexpr"):
        loaded = "torch" in sys.modules
        assert not loaded, "this test, or one before it, loads torch: it needs the mark `torch`"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Only where marks are asked for: to read all imports takes a tenth of the time of a collection."""
    if item.config.getoption("markexpr") and may_load_torch(item.path):
        item.add_marker("torch")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What a collection imports stays, a million objects: the garbage collector never has to look at it again."""
    with collector_paused():
        found = yield
        gc.freeze()
    return found


@pytest.fixture
def write_json(tmp_path: Path) -> WriteJson:
    """Writes a value as JSON to a name below a fresh folder, and returns the path."""

    def write(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def real_tokenizers() -> Path:
    """A folder with the tokenizers qwen2_5/ and llama3_2/, which are no part of the project; tests on them need it.

    The same code is tested on small tokenizers that the tests make themselves.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "tokenizers"
    folder = Path(os.environ.get("ARC_KAGGLE_TOKENIZERS", default))
    if not folder.is_dir():
        pytest.skip(f"no real tokenizers: {folder} is absent; ARC_KAGGLE_TOKENIZERS may name another folder")
    return folder
