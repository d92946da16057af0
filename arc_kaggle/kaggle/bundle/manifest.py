"""What is written beside the wheels of a bundle: the manifest, and what Kaggle wants to know of a dataset."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import parse_wheel_filename

from arc_kaggle.errors import BundleError, ConfigError
from arc_kaggle.kaggle.bundle.installer import MANIFEST_FILE, InstallError, load_manifest, sha256, unpacked_bytes
from arc_kaggle.kaggle.bundle.profile import Profile
from arc_kaggle.system.files import write_json

if TYPE_CHECKING:
    from arc_kaggle.kaggle.bundle.installer import Manifest


DATASET_FILE = "dataset-metadata.json"
TITLE_LENGTH = range(6, 51)


def kaggle_name(file: str) -> str:
    """The name of a file once it is uploaded: Kaggle takes the `+` out."""
    return file.replace("+", "")


def describe_wheel(path: Path, true_name: str) -> dict[str, Any]:
    """A wheel as the manifest has it; `unpacked` are its bytes once installed."""
    name, version, _, _ = parse_wheel_filename(true_name)
    return {
        "file": path.name,
        "wheel": true_name,
        "name": name,
        "version": str(version),
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "unpacked": unpacked_bytes(path),
        "licence": licence_of(path),
    }


def licence_of(wheel: Path) -> str:
    """What a wheel's metadata say of its licence, in one line."""
    with zipfile.ZipFile(wheel) as archive:
        file = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        head = Parser().parsestr(archive.read(file).decode("utf-8", errors="replace"), headersonly=True)
    classifiers = [c.rpartition(" :: ")[2] for c in head.get_all("Classifier", []) if c.startswith("License ::")]
    text = head["License-Expression"] or ", ".join(classifiers) or (head["License"] or "").strip().partition("\n")[0]
    return text[:80] or "not stated"


def write_manifest(folder: Path, profile: Profile, asks: Sequence[str], wheels: Sequence[dict[str, Any]]) -> None:
    """Write the manifest, which makes a folder a bundle: everything else must be there by now."""
    target = asdict(profile)
    name, size = target.pop("name"), sum(wheel["bytes"] for wheel in wheels)
    value = {"profile": name, **target, "asks": list(asks), "bytes": size, "wheels": list(wheels)}
    write_json(folder / MANIFEST_FILE, value)


def open_bundle(folder: Path) -> tuple[Manifest, Profile]:
    """The manifest of a bundle and its profile. Raises BundleError."""
    try:
        manifest = load_manifest(folder)
        options = {field.name: manifest[field.name] for field in fields(Profile) if field.name != "name"}
    except InstallError as error:
        raise BundleError(str(error)) from error
    except KeyError as error:
        raise BundleError(f"{folder / MANIFEST_FILE}: found no {error}; build the bundle again") from error
    return manifest, Profile(manifest["profile"], **options)


def checked_title(title: str) -> str:
    """A title that Kaggle takes. Raises ConfigError for others."""
    if len(title) not in TITLE_LENGTH:
        raise ConfigError(f"title {title!r}: found {len(title)} characters, expected 6 to 50; give a --title")
    return title


def write_dataset_metadata(folder: Path, title: str, dataset: str, licence: str) -> None:
    """What `kaggle datasets create -p FOLDER` asks for. Raises ConfigError for what Kaggle would refuse."""
    value = {"title": checked_title(title), "id": dataset, "licenses": [{"name": licence}]}
    write_json(folder / DATASET_FILE, value)
