"""How many threads a process takes: what others leave free, unless somebody has set the number."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import wait_until

from arc_kaggle.system import threads
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/stat")
def test_a_process_of_low_priority_counts_as_busy() -> None:
    """All time of our cores that is not idle is somebody's work, of whatever priority."""
    busy, idle, now = others_busy()[1] + time.process_time(), idle_seconds(), time.monotonic()
    burn = "import time\nwhile time.process_time() < 1:\n  for _ in range(100_000): pass"
    subprocess.run(["nice", "-n", "1", sys.executable, "-S", "-c", burn], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime >= 0.9
    passed = n_cores() * (time.monotonic() - now) - (idle_seconds() - idle)
    assert others_busy()[1] + time.process_time() - busy >= passed - 0.5


def idle_seconds() -> float:
    """Seconds for which this process' cores had nothing to do, or waited for a disk or for the machine's host."""
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    rows = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
    ticks = sum(int(row[i]) for row in rows if row[0] in cores for i in (4, 5, 6, 7, 8))
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux" or n_cores() < 2, reason="one of several cores of Linux")
def test_only_ones_own_cores_are_looked_at() -> None:
    cores = os.sched_getaffinity(0)
    first = min(cores)
    parts = []
    try:
        for own in ({first}, cores - {first}, cores):
            os.sched_setaffinity(0, own)
            parts.append(others_busy()[1] + time.process_time())
    finally:
        os.sched_setaffinity(0, cores)
    assert min(parts) > 1  # since the machine's start
    assert parts[0] + parts[1] == pytest.approx(parts[2], abs=0.5)


def test_threads_follow_on_linux_alone_and_where_there_are_several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    for platform, cores, expected in (("linux", 2, True), ("darwin", 2, False), ("linux", 1, False)):
        monkeypatch.setattr(threads.sys, "platform", platform)
        monkeypatch.setattr(threads, "n_cores", lambda cores=cores: cores)
        assert may_follow() is expected


def test_a_number_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COUNTS:
        monkeypatch.delenv(name, raising=False)
    assert may_follow() == (sys.platform == "linux" and n_cores() > 1)
    for name in COUNTS:
        with monkeypatch.context() as only:
            only.setenv(name, "2")
            assert not may_follow()
