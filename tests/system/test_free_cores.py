"""How many threads a process takes: what others leave free, unless somebody has set the number."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from processes import wait_until

from arc_kaggle.system.hardware import n_cores
from arc_kaggle.system.threads import COUNTS, FreeCores, may_follow, others_busy


def looks(*seconds: tuple[float, float]) -> FreeCores:
    """Free cores of four, from looks that find these seconds on the clock and of others' work."""
    found = iter(seconds)
    free = FreeCores(lambda: next(found))
    free.n_cores = free.free = 4
    return free


@pytest.mark.parametrize(("busy", "free"), [(0.0, 4), (0.05, 4), (0.1, 3), (0.5, 3), (0.6, 2), (1.5, 1), (2.0, 1)])
def test_each_core_that_others_take_is_a_thread_less(busy: float, free: int) -> None:
    assert looks((0.0, 7.0), (0.5, 7.0 + busy)).count() == free


def test_the_kernel_is_asked_four_times_a_second_at_most() -> None:
    free = looks((0.0, 0.0), (0.1, 0.4), (0.26, 0.52), (0.3, 0.0))
    assert [free.count() for _ in range(3)] == [4, 2, 2]


def test_what_was_seen_long_ago_does_not_count() -> None:
    """After a pause of minutes beside others it looks anew, for a moment."""
    free = looks((0.0, 0.0), (100.0, 300.0), (100.04, 300.0))
    assert free.count() == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/stat")
def test_another_process_that_never_rests_is_seen_and_ones_own_work_is_not() -> None:
    (began, before), own = others_busy(), time.process_time()
    while time.process_time() - own < 0.5:
        pass
    now, after = others_busy()
    others = after - before
    other = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        at = others_busy()
        wait_until(lambda: others_busy()[1] - at[1] >= 0.3, 60)
    finally:
        other.kill()
        other.wait()
    assert others <= n_cores() * (now - began) - 0.4  # the half second is not among them, whoever else works


def test_a_number_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    assert may_follow() == (sys.platform == "linux" and n_cores() > 1)
    for name in COUNTS:
        with monkeypatch.context() as only:
            only.setenv(name, "2")
            assert not may_follow()
