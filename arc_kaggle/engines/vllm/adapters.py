"""Registry of LoRA adapters for vLLM, which loads them from files: every one has a name, number and path of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from arc_kaggle.config.engines import VLLM_RANKS
from arc_kaggle.engines.vllm.messages import Adapter
from arc_kaggle.errors import ModelError
from arc_kaggle.system.inputs import read_json_file


def check_for_vllm(folder: Path, max_rank: int) -> None:
    """Refuse a saved adapter, ours or another's, that vLLM cannot load with `max_lora_rank` `max_rank`.

    Raises ModelError that names all there is against it, and the way out.
    """
    from safetensors import SafetensorError, safe_open

    try:
        config = read_json_file(folder / "adapter_config.json")
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            names = list(weights.keys())
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"adapter {folder}: {type(error).__name__}: {error}, expected an adapter of peft") from error
    if problems := list(_against_vllm(config, names, max_rank)):
        raise ModelError(f"adapter {folder}: vLLM cannot load it: {'; '.join(problems)}")


def _against_vllm(config: Mapping[str, Any], names: Sequence[str], max_rank: int) -> Iterator[str]:
    rank = max([config.get("r") or 0, *(config.get("rank_pattern") or {}).values()])
    if rank > max_rank:
        raised = next((size for size in VLLM_RANKS if size >= rank), None)
        ways = f"raise max_lora_rank to {raised}" if raised else f"train with rank {VLLM_RANKS[-1]} or less"
        yield f"found rank {rank}, expected {max_rank} or less: {ways}"
    if config.get("use_dora") or any("lora_magnitude_vector" in name for name in names):
        yield "found DoRA, expected plain LoRA: train again without it"
    if saved := config.get("modules_to_save"):
        yield f"found modules_to_save {saved}, expected none: train again with them among the LoRA modules"
    elif full := [name for name in names if ".lora_" not in name]:
        yield (
            f"found full weights {full[:3]}, expected LoRA factors alone: save again with save_embedding_layers=False"
        )
    if str(init := config.get("init_lora_weights", True)).startswith(("pissa", "olora", "loftq", "corda")):
        yield f"found init_lora_weights {init!r}, which changes the base: train again from a plain beginning"


RAM_DISK = Path("/dev/shm")
PREFIX = "arc-kaggle-adapters-"
FREE_BYTES = 2**30
"""Bytes of memory that stay free. A RAM disk with less room is not used."""


class Shelf:
    """A temporary folder for adapters, on a RAM disk where there is one. It is removed when the shelf is closed."""

    def __init__(self, max_rank: int, ram_disk: Path = RAM_DISK) -> None:
        self.max_rank = max_rank
        base = ram_disk if _has_room(ram_disk) else Path(tempfile.gettempdir())
        _sweep(base)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
        self.known: dict[str, Adapter] = {}
        self.n_made = 0
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def put(self, name: str, write: Callable[[Path], None]) -> Adapter:
        """Save an adapter by `write`, which gets its path. Raises ModelError for one that vLLM cannot load."""

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
    """Remove the folders that killed processes have left."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(ValueError, PermissionError):
            try:
                os.kill(int(folder.name.removeprefix(PREFIX).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
