"""Tuned weights of a task on disk: a folder written as a whole, with checksums, and loaded only where it belongs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arc_kaggle.errors import ModelError
from arc_kaggle.system.files import digest, flush, write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import remove_below

ABOUT_FILE = "tuned.json"
N_SAMPLED = 256
"""Numbers of each weight that tell models apart."""

WAY_OUT = "expected what was written; delete the folder and tune the task again"

Origin = Mapping[str, Any]
"""What tuned weights belong to, by names that messages give; plain JSON values."""


def save_tuned(folder: Path, origin: Origin, write: Callable[[Path], None]) -> None:
    """Make `folder` of the files that `write` puts into an empty one, their checksums and what they belong to.

    A reader, or a crash, sees what was there before, or nothing, or all of it. Raises ModelError where the disk fails.
    """
    from safetensors import SafetensorError

    partial = folder.with_name(f".{folder.name}.partial")
    try:
        remove_below(folder.parent, partial)
        partial.mkdir(parents=True)
        write(partial)
        about = {"origin": origin, "sha256": {path.name: digest(path) for path in sorted(partial.iterdir())}}
        write_json(partial / ABOUT_FILE, about)
        for path in (*partial.iterdir(), partial):
            flush(path)
        remove_below(folder.parent, folder)
        partial.rename(folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            remove_below(folder.parent, partial)
        raise ModelError(f"tuned weights {folder}: could not be written: {error}; make room there") from error


def check_tuned(folder: Path, origin: Origin) -> None:
    """Raise ModelError where a folder is not what was written, or belongs to another model or other options."""
    try:
        about = read_json_file(folder / ABOUT_FILE)
        found, sums = about["origin"], about["sha256"]
        damaged = [name for name, expected in sums.items() if digest(folder / name) != expected]
        differing = [name for name in sorted({*found, *origin}) if found.get(name) != origin.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"tuned weights {folder}: {error!r}, {WAY_OUT}") from error
    if damaged:
        raise ModelError(f"tuned weights {folder}: the checksum of {', '.join(damaged)} differs, {WAY_OUT}")
    if differing:
        differences = "; ".join(
            f"{name}: found {found.get(name)!r}, expected {origin.get(name)!r}" for name in differing
        )
        raise ModelError(f"tuned weights {folder}: made for something else: {differences}; tune the task again")


def describe_origin(network: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of what is tuned on a network under the options of a config, by their dotted names."""
    options = json.loads(json.dumps(config))
    return {"model": fingerprint(network), **{f"tune.{name}": value for name, value in _dotted(options)}}


def fingerprint(network: nn.Module) -> str:
    """The class of a network and a digest of its weights: names, shapes, types and some numbers of each."""
    whole = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + bits(_sample(tensor)).numpy().tobytes())
    return f"{type(network).__name__} {whole.hexdigest()[:16]}"


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // N_SAMPLED)].cpu()


def bits(tensor: Tensor) -> Tensor:
    """A tensor as bytes (n,): equal where it is equal bit for bit, as 0.0 and -0.0 are not."""
    return tensor.detach().flatten().contiguous().view(torch.uint8)


def _dotted(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in _dotted(value))
        else:
            yield name, value
