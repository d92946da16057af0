"""Threads of mathematics: how many a process takes, and how they wait for each other."""

from __future__ import annotations

import os

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.hardware import n_cores

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPIN_COUNT = "30000"
"""Looks at an empty queue before a thread sleeps. libgomp's own default is ten times as many: on a busy machine threads
then burn their share of it in waiting for each other (docs/threads.md)."""


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
