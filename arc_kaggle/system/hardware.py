"""Hardware: the memory that a machine or its container grants, the memory that processes hold, cores and GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SHARE = 0.9
"""Share of the memory that workers get; the rest is for the supervisor, the notebook and the kernel's own."""
_UNLIMITED = 2**60
"""Limits from here on are none: cgroup v1 writes a number near 2**63 where there is no limit."""


NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch words it, on GPUs and on CPUs."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the host or of a device ran out; torch has no class for the former."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def memory_ceiling(root: Path = Path("/")) -> float:
    """Bytes that all workers together may hold; infinite where the system does not say (not Linux)."""
    return SHARE * min([*_available(root), *(group.limit for group in _cgroups(root))], default=float("inf"))


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: the least that the machine or a cgroup of the process has left.

    Where the system does not say (not Linux) it is all memory that the machine has.
    """
    if known := [*_available(root), *(group.limit - group.used for group in _cgroups(root))]:
        return min(known)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Cgroup:
    """A control group that limits memory, in bytes; file cache that the kernel can drop does not count as used."""

    limit: int
    used: int


_CGROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""The files of limit and use, and the line of memory.stat about file cache, of cgroup v2 and of v1's controller."""


def _cgroups(root: Path) -> Iterator[_Cgroup]:
    """This process's group and all groups above it that have a limit, of cgroup v2 and v1."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in _CGROUP_FILES:
            base = root / "sys/fs/cgroup" / controllers
            group = base / path.strip("/")
            for folder in (group, *group.parents):  # in a container the path may be the host's: its root is then ours
                yield from _cgroup(folder, *_CGROUP_FILES[controllers])
                if folder == base:
                    break


def _cgroup(folder: Path, limit_file: str, used_file: str, droppable: str) -> Iterator[_Cgroup]:
    """The group of a folder, where it has a limit."""
    cache = sum(int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.split()[0] == droppable)
    used = sum(map(int, _lines(folder / used_file)))
    limits = (int(limit) for limit in _lines(folder / limit_file) if limit != "max")
    yield from (_Cgroup(limit, used - cache) for limit in limits if limit < _UNLIMITED)


def _available(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def held_bytes(pid: int, root: Path = Path("/")) -> int:
    """Bytes of memory that a process and those that it started hold; pages that the kernel can drop not counted."""
    return sum(_held(each, root) for each in {pid, *_below(pid, root)})


def _held(pid: int, root: Path) -> int:
    kinds = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) * 1024 for line in _lines(root / f"proc/{pid}/status") if line.startswith(kinds))


def _below(pid: int, root: Path) -> Iterable[int]:
    """Children of any thread of a process, and theirs."""
    for listed in (root / f"proc/{pid}/task").glob("*/children"):
        for child in " ".join(_lines(listed)).split():
            yield int(child)
            yield from _below(int(child), root)


def _lines(path: Path) -> list[str]:
    """The lines of a file; none where there is no such file, or the process that it tells of has ended."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8").splitlines()
    return []


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
