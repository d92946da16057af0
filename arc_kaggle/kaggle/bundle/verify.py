"""`arc-kaggle bundle verify`: hashes, tags, completeness and size of a bundle, for its target and without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle.installer import InstallError, check_files, stage
from arc_kaggle.kaggle.bundle.lock import resolve
from arc_kaggle.kaggle.bundle.manifest import open_bundle
from arc_kaggle.kaggle.bundle.profile import Profile

if TYPE_CHECKING:
    from arc_kaggle.kaggle.bundle.installer import Manifest


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """Verify a bundle for its target: hashes, tags, completeness by a resolution without an index, size."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle."""


def verify(folder: Path) -> str:
    """Check a bundle in every way that can be checked here; what it is, as text. Raises BundleError."""
    manifest, profile = open_bundle(folder)
    try:
        check_files(folder, manifest)
    except InstallError as error:
        raise BundleError(str(error)) from error
    check_tags(manifest, profile)
    check_complete(folder, manifest, profile)
    wheels = manifest["wheels"]
    unpacked = sum(wheel["unpacked"] for wheel in wheels)
    kept = ", ".join(f"{name} {version}" for name, version in profile.keeps.items()) or "nothing"
    return (
        f"{folder}: profile {profile.name}, {len(wheels)} wheels, {manifest['bytes'] / 1e6:.1f} MB, "
        f"{unpacked / 1e6:.1f} MB installed\n"
        f"hashes, tags and completeness are right for CPython {profile.python}, glibc {profile.glibc}; "
        f"the image keeps {kept}"
    )


def check_tags(manifest: Manifest, profile: Profile) -> None:
    """Every wheel runs on the target. Raises BundleError."""
    tags = set(profile.tags)
    for wheel in manifest["wheels"]:
        try:
            name, version, _, found = parse_wheel_filename(wheel["wheel"])
        except InvalidWheelFilename as error:
            raise BundleError(f"wheel {wheel['wheel']}: {error}") from error
        if (name, str(version)) != (wheel["name"], wheel["version"]):
            raise BundleError(f"wheel {wheel['wheel']}: found as {wheel['name']} {wheel['version']} in the manifest")
        if not tags & found:
            raise BundleError(
                f"wheel {wheel['wheel']}: runs on {', '.join(sorted(map(str, found)))[:120]}, expected one for CPython "
                f"{profile.python}, glibc {profile.glibc} or older, {profile.machine}; build the bundle again"
            )


def check_complete(folder: Path, manifest: Manifest, profile: Profile) -> None:
    """What the profile asks for resolves to these wheels with the index cut. Raises BundleError."""
    with TemporaryDirectory() as temp:
        wheels = stage(folder, manifest, Path(temp) / "wheels")
        found = resolve(profile, manifest["asks"], Path(temp), wheels, offline=True)
    needed = {package["name"] for package in found}
    if idle := [wheel["name"] for wheel in manifest["wheels"] if wheel["name"] not in needed]:
        raise BundleError(f"{folder}: nothing asks for {', '.join(idle[:5])}; lock the profile again and build it")
