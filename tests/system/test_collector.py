"""Python's cyclic garbage collector, paused for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from arc_kaggle.system.collector import collector_paused


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_it_rests_within_and_goes_on_behind_whatever_happens() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()
