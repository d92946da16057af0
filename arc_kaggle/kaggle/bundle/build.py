"""`arc-kaggle bundle build`: downloads the wheels of a profile for its target, whatever machine this is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle import installer
from arc_kaggle.kaggle.bundle.installer import MANIFEST_FILE, sha256
from arc_kaggle.kaggle.bundle.lock import LockedWheel, read_asks, read_lock, requirement_of
from arc_kaggle.kaggle.bundle.manifest import describe_wheel, kaggle_name, write_dataset_metadata, write_manifest
from arc_kaggle.kaggle.bundle.profile import CHECKOUT, HERE, Profile, find_profile
from arc_kaggle.kaggle.bundle.tools import own_wheel, run_pip
from arc_kaggle.kaggle.bundle.verify import verify
from arc_kaggle.system.paths import remove_below
from arc_kaggle.system.steps import bar

INSTALLER = "install.py"
PART = ".part-"
"""How the folder begins that holds what is not finished."""
AT_ONCE = 8
"""Wheels that one call of pip downloads; what a killed build loses."""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Build a wheel bundle: download, rename, describe, verify. Files that are there and right are kept."""

    profile: Annotated[str, tyro.conf.Positional]
    """kaggle-py312, self-py312, self-py313, small-py312, small-py313, or here for this interpreter."""
    out: Path
    """Folder to build it in, for `kaggle datasets create -p`."""
    owner: str = "OWNER"
    """Your name on Kaggle, for dataset-metadata.json."""
    project: Path = CHECKOUT
    """Checkout of the project: its wheel, and wheels/ with the locks."""


def build(config: BuildConfig) -> str:
    """Build the bundle of a named profile and verify it; what it came to, as text. Raises BundleError."""
    return build_profile(find_profile(config.profile), config)


def build_profile(profile: Profile, config: BuildConfig) -> str:
    """Build a bundle of any profile; see `build`."""
    out = config.out
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    for left in out.glob(f"{PART}*"):  # by a build that was killed
        remove_below(out, left)
    with TemporaryDirectory(dir=out, prefix=PART) as temp:
        own = own_wheel(config.project, Path(temp))
        asks = [requirement_of(own), *read_asks(config.project, profile)]
        if profile.name == HERE:
            names = collect(own, config.project, out, Path(temp))
        else:
            names = download(profile, read_lock(config.project / "wheels" / f"{profile.name}.txt"), out, Path(temp))
        names += [_place(own, out)]
    _check_strangers(out, names)
    shutil.copyfile(installer.__file__, out / INSTALLER)
    write_dataset_metadata(
        out, f"arc_kaggle wheels {profile.name}", f"{config.owner}/arc-kaggle-{profile.name}", "other"
    )
    write_manifest(out, profile, asks, [describe_wheel(out / kaggle_name(name), name) for name in sorted(names)])
    return verify(out)


def download(profile: Profile, locked: Sequence[LockedWheel], out: Path, temp: Path) -> list[str]:
    """Bring the wheels of a lock into a folder, those that are missing or wrong; their true names."""
    total, wanted = sum(wheel.bytes for wheel in locked), [wheel for wheel in locked if not _is_there(wheel, out)]
    there = total - sum(wheel.bytes for wheel in wanted)
    with bar(total=total, initial=there, unit="B", unit_scale=True, desc=profile.name) as shown:
        remaining = iter(wanted)
        while some := list(islice(remaining, AT_ONCE)):
            _download_some(profile, some, temp / "wheels")
            for wheel in some:
                _place(temp / "wheels" / wheel.file, out)
                shown.update(wheel.bytes)
    return [wheel.file for wheel in locked]


def _is_there(wheel: LockedWheel, out: Path) -> bool:
    path = out / kaggle_name(wheel.file)
    return path.is_file() and path.stat().st_size == wheel.bytes and sha256(path) == wheel.sha256


def _download_some(profile: Profile, wheels: Sequence[LockedWheel], into: Path) -> None:
    lines = into.with_name("wanted.txt")
    lines.write_text("".join(f"{wheel.line}\n" for wheel in wheels), encoding="utf-8")
    words = [
        "download",
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(into),
        "-r",
        str(lines),
    ]
    words += ["--implementation", "cp", "--python-version", profile.python.replace(".", "")]
    words += [word for abi in (profile.abi, "abi3", "none") for word in ("--abi", abi)]
    words += [word for platform in profile.platforms for word in ("--platform", platform)]
    names = ", ".join(wheel.file for wheel in wheels)
    run_pip(words, f"profile {profile.name}: {names:.200} cannot be downloaded; run the same command again to go on")
    if missing := [wheel.file for wheel in wheels if not (into / wheel.file).is_file()]:
        raise BundleError(f"profile {profile.name}: pip did not bring {missing[0]}, which the lock names; lock it anew")


def collect(own: Path, project: Path, out: Path, temp: Path) -> list[str]:
    """Bring what the project needs on this very interpreter, as pip resolves it under constraints.txt; true names."""
    words = ["download", "--only-binary", ":all:", "--dest", str(temp / "wheels"), str(own)]
    words += ["--constraint", str(project / "constraints.txt")]
    words += ["--requirement", str(project / "wheels" / f"{HERE}.in")]
    run_pip(words, f"profile {HERE}: what the project needs cannot be downloaded")
    wheels = sorted((temp / "wheels").glob("*.whl"))
    return [_place(wheel, out) for wheel in wheels if wheel.name != own.name]


def _place(wheel: Path, out: Path) -> str:
    """Move a wheel to where it belongs under the name that Kaggle gives it; its true name."""
    os.replace(wheel, out / kaggle_name(wheel.name))
    return wheel.name


def _check_strangers(out: Path, names: Iterable[str]) -> None:
    known = {kaggle_name(name) for name in names}
    if strange := sorted(path.name for path in out.glob("*.whl") if path.name not in known):
        raise BundleError(
            f"{out}: found {len(strange)} wheels that are no part of the bundle, such as {strange[0]}; delete them, or "
            "take another --out"
        )
