"""Wheels and bundles of a few hundred bytes, for tests of everything around them."""

from __future__ import annotations

import base64
import hashlib
import platform
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

from arc_kaggle.kaggle.bundle import installer
from arc_kaggle.kaggle.bundle.manifest import describe_wheel, kaggle_name, write_manifest
from arc_kaggle.kaggle.bundle.profile import Profile

PYTHON = ".".join(map(str, sys.version_info[:2]))
TINY = Profile("tiny", "tiny wheels", PYTHON, (), glibc=platform.libc_ver()[1], machine=platform.machine())
"""For this very interpreter."""
TARGET = Profile("target", "tiny wheels", "3.12", ())
"""For another interpreter than one that runs the tests, mostly."""


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: Sequence[str] = (),
    code: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """A wheel with one module of the package's name."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, info = f"{name}-{version}", f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"]
    files = {
        f"{name}.py": f"version = {version!r}\n{code}\n",
        f"{info}/METADATA": "".join([*lines, *(f"Requires-Dist: {each}\n" for each in requires)]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", record(files) + f"{info}/RECORD,,\n")
    return path


def record(files: Mapping[str, str]) -> str:
    digests = {file: hashlib.sha256(text.encode()).digest() for file, text in files.items()}
    coded = {file: base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for file, digest in digests.items()}
    return "".join(f"{file},sha256={coded[file]},{len(text.encode())}\n" for file, text in files.items())


def write_bundle(
    folder: Path, wheels: Sequence[Path], asks: Sequence[str], profile: Profile = TINY, **options: object
) -> Path:
    """A bundle of some wheels, as `bundle build` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        copyfile(wheel, folder / kaggle_name(wheel.name))
    copyfile(installer.__file__, folder / "install.py")
    described = [describe_wheel(folder / kaggle_name(wheel.name), wheel.name) for wheel in wheels]
    write_manifest(folder, replace(profile, **options), asks, described)  # type: ignore[arg-type]
    return folder
