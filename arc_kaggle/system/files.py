"""Durable files: one JSON object a line, each with its checksum, so that a torn or flipped line is found."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHECKSUM = re.compile(rb', "crc32": "([0-9a-f]{8})"\}')
_SPOILED = re.compile(rb', "[^"]{5}": "[^"]{8}"\}$')
"""A checksum whose name or digits were hit themselves."""


def line_of(value: Mapping[str, Any]) -> bytes:
    """A value as a line; the checksum stands last in it, so that the line stays plain JSON."""
    body = strict_json(value).encode()
    return body[:-1] + b', "crc32": "%08x"}\n' % zlib.crc32(body)


def value_of(line: bytes) -> dict[str, Any]:
    """The value of a line, its newline stripped. Raises ValueError for one that is not as it was written.

    A line without a checksum, written by hand or by another program, is taken as it is.
    """
    found = _CHECKSUM.search(line, max(0, len(line) - 22))
    if not found and _SPOILED.search(line, max(0, len(line) - 22)):
        raise ValueError(f"the line is damaged: found {line[-20:]!r} for its checksum, expected eight hex digits")
    body = line[: found.start()] + b"}" if found else line
    if found and zlib.crc32(body) != int(found[1], 16):
        raise ValueError(f"the line is damaged: found checksum {zlib.crc32(body):08x}, expected {found[1].decode()}")
    value: dict[str, Any] = json.loads(body)
    return value


def append_lines(path: Path, values: Iterable[Mapping[str, Any]], sync: bool = False) -> None:
    """Add lines in one write, so that they survive the death of the writer; with `sync` also that of the machine.

    A line that does not fit the disk leaves no part of itself. Raises OSError.
    """
    data = b"".join(map(line_of, values))
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if sync:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


@dataclass(frozen=True, slots=True)
class Lines:
    """What a file holds: its values in order, and the numbers of the lines that are damaged, from 1."""

    values: tuple[dict[str, Any], ...]
    damaged: tuple[int, ...]


def read_lines(path: Path) -> Lines:
    """All lines of a file; none where there is no file. What follows the last newline was never finished: no line."""
    values, damaged = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else (), start=1):
        try:
            values.append(value_of(line))
        except (ValueError, RecursionError):
            damaged.append(number)
    return Lines(tuple(values), tuple(damaged))


def cut_torn(path: Path) -> None:
    """Cut off a last line that a killed writer left unfinished."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def set_aside(path: Path, values: Iterable[Mapping[str, Any]]) -> Path:
    """Keep a damaged file beside its place, and put what is whole of it there. Gives the name it has now."""
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    append_lines(path, values, sync=True)
    return aside


def flush(path: Path) -> None:
    """Bring a file or a folder onto the disk, so that a power cut leaves no folder without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step; a reader, or a crash, sees the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Replace a file by strict JSON in one step; see `strict_json`."""
    write_atomically(path, strict_json(value, indent))


def strict_json(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: a number that is NaN or infinite becomes null, for JSON has no such numbers."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
