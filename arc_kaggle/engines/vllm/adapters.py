"""Adapters for an engine that loads them from files: each under a name, a number and a path of its own, never again."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from arc_kaggle.engines.vllm.asks import Adapter

RAM_DISK = Path("/dev/shm")
PREFIX = "arc-kaggle-adapters-"
FREE_BYTES = 2**30
"""Left free in memory; where a RAM disk has less it is not used."""


class Shelf:
    """A folder for adapters, on a RAM disk where there is one; it goes with the shelf."""

    def __init__(self, max_rank: int, ram_disk: Path = RAM_DISK) -> None:
        self.max_rank = max_rank
        base = ram_disk if _has_room(ram_disk) else Path(tempfile.gettempdir())
        _sweep(base)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
        self.known: dict[str, Adapter] = {}
        self.n_made = 0
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def put(self, name: str, write: Callable[[Path], None]) -> Adapter:
        """Keep what `write` makes at a path. Raises ModelError for what vLLM cannot load, with the way out."""
        from arc_kaggle.lora import check_for_vllm  # torch, which the supervisor does without

        self.n_made += 1
        adapter = Adapter(f"{name}-{self.n_made}", self.n_made, self.folder / f"{name}-{self.n_made}")
        write(adapter.folder)
        try:
            check_for_vllm(adapter.folder, self.max_rank)
        except Exception:
            shutil.rmtree(adapter.folder, ignore_errors=True)
            raise
        self.known[adapter.name] = adapter
        return adapter

    def drop(self, name: str) -> Adapter:
        adapter = self.known.pop(name)
        shutil.rmtree(adapter.folder, ignore_errors=True)
        return adapter


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > FREE_BYTES


def _sweep(base: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(ValueError, PermissionError):
            try:
                os.kill(int(folder.name.removeprefix(PREFIX).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
