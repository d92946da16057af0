"""Torch's number of threads follows what other processes leave free, step by step."""

from __future__ import annotations

from functools import cache

import torch

from arc_kaggle.system.threads import FreeCores, may_follow


@cache
def _free_cores() -> FreeCores | None:
    """One for the process; None where the number of threads is fixed."""
    return FreeCores() if may_follow() and torch.get_num_threads() > 1 else None


def follow_load(device: torch.device) -> None:
    """Take as many threads for the next step on a CPU as there are free cores; where the number was set, it stays.

    Threads that wait for each other beside busy processes cost more than they bring (docs/threads.md). Sums may then be
    made in another order, and a gradient differ in its last bit.
    """
    if device.type == "cpu" and (free := _free_cores()) and (n_threads := free.count()) != torch.get_num_threads():
        torch.set_num_threads(n_threads)
