"""Names that are safe as file names, and removal and replacement that stay where they belong."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arc_kaggle.errors import ConfigError

LONGEST_NAME = 96
"""Characters; file systems allow 255 bytes, endings such as `.jsonl.damaged` included."""
_NOT_PLAIN = re.compile(rb"[^a-z0-9_-]")


def safe_name(text: str) -> str:
    """A file name for any text, a different one for each; it is one part of a path and never hidden.

    Lower-case letters, digits, `_` and `-` stay as they are, so `00576224` is its own name; every other byte of the
    text's UTF-8 form becomes `%` and two hex digits, which `urllib.parse.unquote(name, errors="surrogatepass")`
    reverses. Upper case is escaped because some file systems ignore case. Of a long text the name holds only the
    beginning and, behind `%-`, a digest: who wants the text back keeps it inside the file.
    """
    encoded = text.encode("utf-8", errors="surrogatepass")
    name = _NOT_PLAIN.sub(lambda match: b"%%%02x" % match[0][0], encoded).decode() or "%"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:32]
    return f"{name[: LONGEST_NAME - len(digest) - 2]}%-{digest}"


def remove_below(root: Path, path: Path) -> None:
    """Remove a file or a folder that lies below `root`; nothing happens where there is none.

    Raises OSError and removes nothing where `path` is not below `root`, or where it, or a folder between the two, is a
    link: what a link points to was not made by whoever owns `root`.
    """
    root, path = Path(os.path.abspath(root)), Path(os.path.abspath(path))
    if path == root or not path.is_relative_to(root):
        raise OSError(errno.EPERM, f"it is not below {root} and is not removed", str(path))
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise OSError(errno.ELOOP, "it is a link and is not removed", str(part))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replaced_folder(out: Path, mark: str) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends; where the block fails nothing has changed.

    What is there is removed only where it is a folder like the new one, with a file `mark` and without folders in it,
    or an empty folder. Raises OSError, also for anything else that is there.
    """
    there = list(out.iterdir()) if out.exists() else []
    if there and (not (out / mark).is_file() or any(path.is_dir() for path in there)):
        raise FileExistsError(errno.EEXIST, f"it holds more than a folder with {mark} and is not removed", str(out))
    partial = out.with_name(f".{out.name}.partial")
    remove_below(out.parent, partial)
    try:
        partial.mkdir(parents=True)
        yield partial
        remove_below(out.parent, out)
        partial.rename(out)
    finally:
        remove_below(out.parent, partial)


@contextmanager
def written_folder(out: Path, mark: str, overwrite: bool) -> Iterator[Path]:
    """The folder that a command writes for its option --out, by `replaced_folder`: as a whole or not at all.

    Raises ConfigError for a folder that is there, unless `overwrite` is set, and for one that cannot be written.
    """
    if out.exists() and not overwrite:
        raise ConfigError(f"out {out}: found it there already; take another --out, or --overwrite")
    try:
        with replaced_folder(out, mark) as folder:
            yield folder
    except OSError as error:
        raise ConfigError(f"out {out}: cannot be written to ({error.strerror})") from error
