"""Threads of mathematics: how many a process takes, how they wait for each other, and which cores are free."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.hardware import n_cores

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPIN_COUNT = "100000"
"""Looks at an empty queue before a thread sleeps. libgomp's own default is three times as many: on a busy machine
threads then burn their share of it in waiting for each other (docs/threads.md)."""


def thread_environment(n_each: int | None = None) -> dict[str, str]:
    """What a process must find set as it loads torch: how its threads wait, and how many they are where that is given.

    Whoever has set how threads wait, by either variable of WAITS, keeps it.
    """
    waits = {} if os.environ.keys() & set(WAITS) else {"GOMP_SPINCOUNT": SPIN_COUNT}
    return waits if n_each is None else {**waits, **dict.fromkeys(COUNTS, str(n_each))}


def n_threads() -> int:
    """Cores that all workers together may use: OMP_NUM_THREADS where it is set, of a list the number for its outermost
    level. Raises ConfigError for one that is no number.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if not text:
        return n_cores()
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigError(
            f"environment variable OMP_NUM_THREADS: found {os.environ['OMP_NUM_THREADS']!r:.60}, expected a number "
            "such as 4; set it right, or unset it"
        )
    return int(text)


class FreeCores:
    """How many of this process' cores others leave free, by Linux's count of busy time.

    A worker asks between two steps, and so has one thread beside others and all cores as soon as they are gone.
    """

    LEAST_SECONDS, MOST_SECONDS, SAMPLE_SECONDS = 0.25, 1.0, 0.04
    """Between two looks; after which what was seen is stale; of a fresh look, four ticks of the kernel's clock."""

    def __init__(self, look: Callable[[], tuple[float, float]] | None = None) -> None:
        """`look` gives seconds on a clock, and seconds for which other processes have kept these cores busy."""
        self.n_cores = n_cores()
        self.look = look or others_busy
        self.looked = self.look()
        self.free = self.n_cores

    def count(self) -> int:
        """One at least; an eighth of a core does not count as taken. It asks the kernel four times a second at most."""
        now, busy = self.look()
        before, busy_before = self.looked
        if now - before < self.LEAST_SECONDS:
            return self.free
        if now - before > self.MOST_SECONDS:
            before, busy_before = now, busy
            time.sleep(self.SAMPLE_SECONDS)
            now, busy = self.look()
        self.looked = now, busy
        taken = (busy - busy_before) / max(1e-3, now - before)
        self.free = max(1, int(self.n_cores + 0.125 - taken))
        return self.free


def others_busy() -> tuple[float, float]:
    """Seconds on the clock, and seconds of other processes on this one's cores, since the machine's start."""
    cores = os.sched_getaffinity(0)
    rows = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines() if line[3:4].isdigit()]
    ticks = sum(sum(map(int, row[1:4])) for row in rows if int(row[0][3:]) in cores)  # user, nice and system
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def may_follow() -> bool:
    """Whether the number of threads may follow what others leave free: on Linux, where nobody has set it."""
    return sys.platform == "linux" and not os.environ.keys() & set(COUNTS) and n_cores() > 1
