"""Locks: which wheels a profile's requirements become on its target, one a line, with hash and size."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro
from packaging.utils import canonicalize_name, parse_wheel_filename

from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle.profile import CHECKOUT, HERE, Profile, find_profile
from arc_kaggle.kaggle.bundle.tools import own_wheel, run_uv, write_stand_in
from arc_kaggle.system.files import write_atomically

LINE = re.compile(r"(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})  # ([^\s/\\\0]+\.whl) (\d+)")
HEAD = """\
# Profile {profile.name}: {profile.title}.
# Resolved on {today} for CPython {profile.python}, glibc {profile.glibc}, {profile.machine}: {n} wheels, {size:.0f} MB.
# {tested}
# Made by `arc-kaggle bundle lock {profile.name}` from {profile.name}.in. A line: requirement, hash, file, bytes.
"""


@dataclass(frozen=True, slots=True)
class LockConfig:
    """Resolve what a profile asks for into its lock, wheels/NAME.txt, for its target. Needs uv and an index."""

    profile: Annotated[str, tyro.conf.Positional]
    """Name of the profile: kaggle-py312, self-py312, self-py313, small-py312, small-py313."""
    project: Path = CHECKOUT
    """Checkout of the project, with wheels/."""


@dataclass(frozen=True, slots=True)
class LockedWheel:
    """One wheel of a lock. `file` is its true name."""

    name: str
    version: str
    sha256: str
    file: str
    bytes: int

    @property
    def line(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}  # {self.file} {self.bytes}"


def lock(config: LockConfig, today: date) -> str:
    """Write the lock of a profile; what it came to, as a line. Raises BundleError."""
    profile = find_profile(config.profile)
    if profile.name == HERE:
        raise BundleError(f"profile {HERE}: has no lock, it is resolved whenever it is built; name another profile")
    path = config.project / "wheels" / f"{profile.name}.txt"
    with TemporaryDirectory() as temp:
        own = own_wheel(config.project, Path(temp))
        asks = [requirement_of(own), *read_asks(config.project, profile)]
        freeze = config.project / "wheels" / profile.freeze if profile.freeze else None
        found = resolve(profile, asks, Path(temp), own.parent, freeze=freeze)
    wheels = [best_wheel(package, profile) for package in found if canonicalize_name(package["name"]) != "arc-kaggle"]
    size = sum(wheel.bytes for wheel in wheels)
    tested = (
        f"Tested: {profile.tested}" if profile.tested else "UNTESTED: it resolves, but was never installed on Kaggle."
    )
    head = HEAD.format(profile=profile, tested=tested, today=today.isoformat(), n=len(wheels), size=size / 1e6)
    write_atomically(path, head + "".join(f"{wheel.line}\n" for wheel in wheels))
    return f"{path}: {len(wheels)} wheels, {size / 1e6:.0f} MB"


def read_asks(project: Path, profile: Profile) -> list[str]:
    """The requirements in a profile's .in file. Raises BundleError."""
    path = project / "wheels" / f"{profile.name}.in"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}, expected requirements; name a checkout by --project") from error
    return [asked for line in lines if (asked := line.partition("#")[0].strip())]


def read_lock(path: Path) -> tuple[LockedWheel, ...]:
    """The wheels of a lock. Raises BundleError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}, expected a lock; run `arc-kaggle bundle lock`") from error
    return tuple(_read_line(line, path, i) for i, line in enumerate(lines, 1) if not line.startswith("#"))


def _read_line(line: str, path: Path, number: int) -> LockedWheel:
    if (match := LINE.fullmatch(line)) is None:
        raise BundleError(f"{path}, line {number}: found {line!r:.60}, expected NAME==VERSION --hash=...  # FILE BYTES")
    name, version, digest, file, size = match.groups()
    return LockedWheel(name, version, digest, file, int(size))


def requirement_of(wheel: Path) -> str:
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version}"


def resolve(
    profile: Profile,
    asks: Iterable[str],
    temp: Path,
    wheels: Path,
    offline: bool = False,
    freeze: Path | None = None,
) -> list[dict[str, Any]]:
    """Resolve requirements for a profile's target; the packages of a pylock.toml without those that the image keeps.

    `wheels` is a folder of wheels beside the index, or, `offline`, all that there is. What a `freeze` of the image
    holds is taken where it suits. Raises BundleError with the resolver's own words.
    """
    stand_ins, asked, out = temp / "stand-ins", temp / "asked.txt", temp / "pylock.toml"
    stand_ins.mkdir()
    # a local part of its own tells a stand-in from the package of that version in an index
    kept = {name: version if "+" in version else f"{version}+image" for name, version in profile.keeps.items()}
    for name, version in kept.items():
        write_stand_in(stand_ins, name, version)
    lines = [*asks, *(f"{name}=={version}" for name, version in kept.items())]
    asked.write_text("\n".join(lines), encoding="utf-8")
    words = ["pip", "compile", str(asked), "--only-binary", ":all:"]
    words += ["--python", sys.executable, "--python-version", profile.python]  # the first keeps uv from looking around
    words += ["--python-platform", f"{profile.machine}-manylinux_{profile.glibc.replace('.', '_')}"]
    words += ["--find-links", str(stand_ins), "--find-links", str(wheels), *(["--no-index"] if offline else [])]
    failure = f"profile {profile.name}: the requirements do not resolve for Python {profile.python}"
    if freeze is not None:
        words += ["--constraint", str(_preferring(freeze, words, temp, failure))]
    run_uv([*words, "--format", "pylock.toml", "--output-file", str(out)], failure)
    packages: list[dict[str, Any]] = tomllib.loads(out.read_text(encoding="utf-8"))["packages"]
    return [package for package in packages if package["name"] not in profile.keeps]


def _preferring(freeze: Path, words: Sequence[str], temp: Path, failure: str) -> Path:
    """Versions of a resolution that departs from a freeze no more than it must: uv keeps to what its output holds."""
    pinned = temp / "pinned.txt"
    pinned.write_text(freeze.read_text(encoding="utf-8"), encoding="utf-8")
    run_uv([*words, "--output-file", str(pinned)], failure)
    return pinned


def best_wheel(package: Mapping[str, Any], profile: Profile) -> LockedWheel:
    """Of the wheels of a package, the one that an installer on the target would take. Raises BundleError."""
    ranks = {tag: rank for rank, tag in enumerate(profile.tags)}
    found = []
    for wheel in package.get("wheels", ()):
        file = wheel.get("name") or wheel["url"].rpartition("/")[2].replace("%2B", "+")
        rank = min((ranks[tag] for tag in parse_wheel_filename(file)[3] if tag in ranks), default=None)
        if rank is not None:
            found.append((rank, file, wheel))
    if not found:
        raise BundleError(f"package {package['name']} {package['version']}: found no wheel for {profile.name}'s target")
    _, file, wheel = min(found, key=lambda each: each[:2])
    return LockedWheel(package["name"], package["version"], wheel["hashes"]["sha256"], file, wheel["size"])
