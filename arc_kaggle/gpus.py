"""The GPUs of this machine, as its driver tells them and as the environment shows them. No torch here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver tells it."""

    name: str
    memory_gib: float
    capability: str
    """Compute capability, such as 7.5; bf16 from 8.0 on."""
    driver: str


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, by nvidia-smi; none where there is no driver."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.count(",") == 3]
    return tuple(Gpu(name, float(mib) / 1024, capability, driver) for name, mib, capability, driver in rows)


def visible_gpus(device: str) -> tuple[str, ...]:
    """The GPUs to share out, in the words of CUDA_VISIBLE_DEVICES; none where a run names one itself, or the CPU."""
    return all_visible() if device in ("auto", "cuda") else ()


def all_visible() -> tuple[str, ...]:
    """In the order in which a process numbers them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(gpu for gpu in named.split(",") if gpu not in ("", "-1"))
    return tuple(str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
