"""Files that somebody else wrote: kind and size are checked before anything is read, plain or compressed."""

from __future__ import annotations

import errno
import gzip
import io
import json
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_BYTES = 2**30
"""Of a file that is read as a whole, once it is unpacked."""
MOST_LETTERS_A_LINE = 2**26
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


@contextmanager
def open_input_file(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a regular file, unpacked where its name ends in .gz or .xz.

    Raises OSError, also for a damaged archive, and for a pipe or a device, which may never begin or never end.
    """
    kind = os.stat(path)
    if stat.S_ISDIR(kind.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(kind.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, expected a file", str(path))
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise OSError(errno.EINVAL, f"its archive is damaged: {error}", str(path)) from error


def read_input_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a file; see `open_input_file`. Raises OSError, also where it is longer than `most_bytes`."""
    with open_input_file(path) as file:
        fits = path.suffix in _OPENERS or os.fstat(file.fileno()).st_size <= most_bytes
        data = file.read(most_bytes + 1) if fits else b""
    if not fits or len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {most_bytes} bytes", str(path))
    return data


def read_input_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, one by one; a byte order mark is passed over.

    Raises OSError, also for a line of more than `MOST_LETTERS_A_LINE`, and UnicodeDecodeError.
    """
    with open_input_file(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as lines:
        while line := lines.readline(MOST_LETTERS_A_LINE + 1):
            if len(line) > MOST_LETTERS_A_LINE:
                raise OSError(errno.EFBIG, f"a line is longer than {MOST_LETTERS_A_LINE} letters", str(path))
            yield line.removesuffix("\n")


def read_json_file(path: Path, **hooks: Any) -> Any:
    """The value of a UTF-8 JSON file, with or without a byte order mark; `hooks` go to `json.loads`.

    Raises OSError; ValueError for what is not JSON, UnicodeDecodeError among it.
    """
    try:
        return json.loads(read_input_file(path).decode("utf-8-sig"), **hooks)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
