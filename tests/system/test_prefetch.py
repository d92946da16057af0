"""Values made ahead are those that would have come, no further ahead than asked for."""

import threading
from collections.abc import Iterator

import pytest

from arc_kaggle.system.prefetch import made_ahead


def test_the_same_values_in_the_same_order() -> None:
    for n_ahead in (1, 2, 7):
        with made_ahead(iter(range(5)), n_ahead) as values:
            assert list(values) == [0, 1, 2, 3, 4]
    with made_ahead(iter(()), 2) as nothing:
        assert list(nothing) == []


def test_they_are_made_while_another_is_in_use_and_only_so_many() -> None:
    n_made, enough = 0, threading.Event()

    def values() -> Iterator[int]:
        nonlocal n_made
        while True:
            n_made += 1
            if n_made == 4:
                enough.set()
            yield n_made

    with made_ahead(values(), 3) as taken:
        assert next(taken) == 1
        assert enough.wait(5)
    assert n_made == 4  # the one that was taken and three ahead; the thread ended with its context
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_an_error_comes_where_its_value_would_have() -> None:
    def values() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    with made_ahead(values(), 4) as taken:
        assert [next(taken), next(taken)] == [1, 2]
        with pytest.raises(ValueError, match="the third"):
            next(taken)
