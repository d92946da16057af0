"""Child processes: what they find set, how they end with whoever started them, and what they said last."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from arc_kaggle.system.threads import n_threads, thread_environment

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


OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "VLLM_CACHE_ROOT")
"""Where compilers keep what they made; two that write one folder at once break each other."""


def worker_environment(
    number: int, n_workers: int, gpus: Sequence[str], scratch: Path, n_each: int = 1
) -> dict[str, str]:
    """What a worker must find set before it imports anything: its `n_each` GPUs, its cores, and caches that no other
    writes. Raises ConfigError for an OMP_NUM_THREADS that is no number.
    """
    caches = {name: str(scratch / f"worker-{number}" / name.lower()) for name in CACHES}
    first = n_each * (number % max(1, len(gpus) // n_each))
    gpu = {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first : first + n_each])} if gpus else {}
    share = None if n_workers == 1 else max(1, n_threads() // n_workers)
    return {**OFFLINE, **caches, **gpu, **thread_environment(share)}


def last_words(code: int, printed: str, n_lines: int = 1) -> str:
    """How a process ended, and the last lines that it printed. One that was killed had no time to print why."""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    lines = printed.strip().splitlines()[-n_lines:]
    return f"{how} ({' / '.join(line[:300] for line in lines)})" if lines and code != -signal.SIGKILL else how
