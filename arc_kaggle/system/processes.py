"""Child processes: how they find this package, and how they end with whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PACKAGE_ROOT = str(Path(__file__).parents[2])
"""The folder that arc_kaggle is imported from."""


def python_path() -> str:
    """PYTHONPATH of a child process that imports this very package."""
    return os.pathsep.join(filter(None, [PACKAGE_ROOT, os.environ.get("PYTHONPATH")]))


def die_with_parent() -> None:
    """A worker that is stopped, or hangs, does not see its stdin end; on Linux the kernel ends it all the same."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
