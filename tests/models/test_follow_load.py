"""Torch takes as many threads as there are free cores, on a CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from models import lively_model, random_prompts

from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.models import threads
from arc_kaggle.models.threads import follow_load
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import n_cores
from arc_kaggle.system.threads import COUNTS
from arc_kaggle.tuning.optimizer import Optimizer


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Every test begins with two threads, and with nothing known of free cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    threads._free_cores.cache_clear()
    yield
    torch.set_num_threads(before)
    threads._free_cores.cache_clear()


class Cores:
    """Three free cores."""

    def count(self) -> int:
        return 3


def test_threads_follow_free_cores_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_free_cores", Cores)
    follow_load(torch.device("cuda"))
    assert torch.get_num_threads() == 2
    follow_load(torch.device("cpu"))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("what", ["answer", "training step"])
def test_they_follow_in_every_forward_pass_and_training_step(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model(0)
    optimizer = Optimizer(model, model.network.parameters(), OptimConfig(), 1)
    monkeypatch.setattr(threads, "_free_cores", Cores)
    if what == "answer":
        list(HFEngine(model).generate(random_prompts([9]), [1], Deadline.never()))
    else:
        ids = torch.tensor([[1, 5, 6, 7]])
        optimizer.step(ids, ids)
    assert torch.get_num_threads() == 3


def test_a_number_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    follow_load(torch.device("cpu"))
    assert torch.get_num_threads() == 2
    assert threads._free_cores() is None


@pytest.mark.skipif(sys.platform != "linux" or n_cores() < 2, reason="threads follow on Linux, where there are cores")
def test_a_process_counts_its_free_cores_from_one_look_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """One counter for all steps; none for a process of one thread, whose number is fixed."""
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    found = threads._free_cores()
    assert found is not None
    assert found is threads._free_cores()
    assert found.n_cores == n_cores()
    threads._free_cores.cache_clear()
    torch.set_num_threads(1)
    assert threads._free_cores() is None
