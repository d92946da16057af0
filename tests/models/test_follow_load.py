"""Torch takes as many threads as there are free cores, on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from arc_kaggle.models import threads
from arc_kaggle.models.threads import follow_load


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Cores:
    def count(self) -> int:
        return 3


def test_threads_follow_free_cores_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "_free_cores", Cores)
    follow_load(torch.device("cuda"))
    assert torch.get_num_threads() == 2
    follow_load(torch.device("cpu"))
    assert torch.get_num_threads() == 3


def test_a_number_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads._free_cores.cache_clear()
    follow_load(torch.device("cpu"))
    assert torch.get_num_threads() == 2 and threads._free_cores() is None
    threads._free_cores.cache_clear()
