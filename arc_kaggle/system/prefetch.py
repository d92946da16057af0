"""Values made ahead: a thread makes the next ones while the ones before are in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def made_ahead(values: Iterator[T], n_ahead: int) -> Iterator[Iterator[T]]:
    """Within it the same values in the same order, up to `n_ahead` of them made before they are asked for.

    What `values` raise comes where their value would have come. Nobody else may touch `values`, before or after.
    """
    with ThreadPoolExecutor(1, "ahead") as maker:
        yield _taken(values, maker, n_ahead)


def _taken(values: Iterator[T], maker: Executor, n_ahead: int) -> Iterator[T]:
    end = object()
    coming = deque(maker.submit(next, values, end) for _ in range(n_ahead))
    while (value := coming.popleft().result()) is not end:
        coming.append(maker.submit(next, values, end))
        yield value  # type: ignore[misc]
