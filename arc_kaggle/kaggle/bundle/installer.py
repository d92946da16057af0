"""Install a wheel bundle without a network: python install.py

One plain file for Python 3.8 and later that needs pip alone, and takes uv where there is one. `arc-kaggle bundle
install` calls it, and every bundle holds it as install.py. Everything is checked before anything is changed; if what
follows fails, or the imports and the forward pass at the end do, the packages that were there come back.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Manifest = dict[str, Any]


MANIFEST_FILE = "manifest.json"
"""What makes a folder a bundle. Written last."""
ROOT_VARIABLE = "ARC_KAGGLE_INPUT"
"""Names another folder than /kaggle/input."""
DEPTH = 8
"""Folders below the root that are looked into."""
SPARE = 1.05
"""Disk that must be free, as a multiple of what the wheels unpack to."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Switches of packages that would otherwise wait for a network."""
FORWARD_PASS = """
import torch
from peft import LoraConfig, get_peft_model
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.models.loading import load_model

network = load_model(BOX_FOLDER).network
network = get_peft_model(network, LoraConfig(target_modules="all-linear"))
ids = torch.arange(8, device=network.device)[None]
with torch.inference_mode():
    assert torch.isfinite(network(input_ids=ids).logits).all(), "logits are not finite"
"""
FORWARD_IMPORTS = ("torch", "transformers", "peft", "arc_kaggle")
"""What the forward pass imports, so that no process of its own has to."""


class InstallError(Exception):
    """What was wrong, what was found, what was expected, and what to do."""


def default_root() -> Path:
    """Where Kaggle mounts what a notebook has attached."""
    return Path(os.environ.get(ROOT_VARIABLE) or "/kaggle/input")


# The bundle and its files ---------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where the folder is no bundle."""
    path = folder / MANIFEST_FILE
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and {"profile", "wheels"} <= value.keys() else None


def find_bundles(root: Path) -> list[Path]:
    """All bundles below a folder, known by what their manifests hold."""
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folder = Path(place)
        if MANIFEST_FILE in files and read_manifest(folder) is not None:
            found.append(folder)
            folders.clear()
        elif len(folder.relative_to(root).parts) >= DEPTH:
            folders.clear()
    return sorted(found)


def choose_bundle(root: Path, beside: Path | None = None) -> Path:
    """The only bundle below `root`; without any, the folder `beside`. Raises InstallError for none and several."""
    found = find_bundles(root)
    if not found and beside is not None and read_manifest(beside) is not None:
        return beside
    if not found:
        raise InstallError(
            f"no bundle: found no folder with a {MANIFEST_FILE} of a wheel bundle below {root}; attach the dataset "
            "that `arc-kaggle bundle build` made, or name a folder by --bundle, or where to look by --root"
        )
    if len(found) > 1:
        names = ", ".join(f"{folder} ({(read_manifest(folder) or {})['profile']})" for folder in found)
        raise InstallError(
            f"{len(found)} bundles below {root}: {names}; expected one: detach the others, or name one by --bundle"
        )
    return found[0]


def load_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle. Raises InstallError."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise InstallError(
            f"{folder}: found no {MANIFEST_FILE} of a wheel bundle; it is written last, so a bundle without one is not "
            "finished: run `arc-kaggle bundle build` again, it keeps what is there"
        )
    _check_names(folder, manifest)
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Every wheel is named as a file of one folder: nothing is read or linked elsewhere. Raises InstallError."""
    wheels = manifest["wheels"]
    named = isinstance(wheels, list) and all(isinstance(wheel, dict) for wheel in wheels)
    for name in [wheel.get(key) for wheel in wheels for key in ("file", "wheel")] if named else [wheels]:
        if not isinstance(name, str) or not name.endswith(".whl") or set("/\\\0") & set(name):
            raise InstallError(
                f"{folder / MANIFEST_FILE}: found {name!r:.80} for a wheel, expected the name of a .whl file in the "
                "bundle; build the bundle again"
            )


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every wheel is there as a whole. Raises InstallError that names those which are not."""
    again = "upload the bundle again, or build it again: `arc-kaggle bundle build` keeps what is right"
    paths = {folder / wheel["file"]: wheel for wheel in manifest["wheels"]}
    if missing := [path.name for path in paths if not path.is_file()]:
        raise InstallError(f"{folder}: {len(missing)} of {len(paths)} wheels are missing: {_some(missing)}; {again}")
    for path, wheel in paths.items():
        if path.stat().st_size != wheel["bytes"]:
            raise InstallError(f"{path}: found {path.stat().st_size} bytes, expected {wheel['bytes']}; {again}")
    for path, wheel in paths.items():
        if (found := sha256(path)) != wheel["sha256"]:
            raise InstallError(f"{path}: found SHA-256 {found:.12}..., expected {wheel['sha256']:.12}...; {again}")


def stage(folder: Path, manifest: Manifest, into: Path) -> Path:
    """A folder of links to the wheels under their true names: Kaggle takes `+` out, and its mounts are read-only."""
    into.mkdir()
    for wheel in manifest["wheels"]:
        source, target = (folder / wheel["file"]).resolve(), into / wheel["wheel"]
        try:
            target.symlink_to(source)
        except OSError:  # a file system without links
            shutil.copyfile(source, target)
    return into


# The machine ----------------------------------------------------------------------------------------------------------


def check_machine(manifest: Manifest, without_gpu: bool = False) -> list[str]:
    """Interpreter, glibc, torch and driver are those of the profile; what was found. Raises InstallError."""
    return [
        _check_python(manifest),
        _check_glibc(manifest),
        *_check_kept(manifest),
        *([] if without_gpu else _check_driver(manifest)),
    ]


def _check_python(manifest: Manifest) -> str:
    found = ".".join(map(str, sys.version_info[:2]))
    kind, machine = platform.python_implementation(), platform.machine()
    if (kind, found, machine) != ("CPython", manifest["python"], manifest["machine"]):
        raise InstallError(
            f"wrong Python: found {kind} {found} on {machine}, expected CPython {manifest['python']} on "
            f"{manifest['machine']} for profile {manifest['profile']}; {_image_advice(manifest)}"
        )
    return f"Python {found}"


def _check_glibc(manifest: Manifest) -> str:
    name, found = platform.libc_ver()
    if name != "glibc" or _numbers(found) < _numbers(manifest["glibc"]):
        raise InstallError(
            f"wrong C library: found {name or 'none'} {found}, expected glibc {manifest['glibc']} or newer for profile "
            f"{manifest['profile']}; {_image_advice(manifest)}"
        )
    return f"glibc {found}"


def _check_kept(manifest: Manifest) -> Iterator[str]:
    for name, expected in manifest["keeps"].items():
        found = installed(name)
        if found != expected and (found or "").partition("+")[0] != expected:
            raise InstallError(
                f"{name} mismatch: found {found or 'none'}, expected {expected}, which profile {manifest['profile']} "
                f"takes from the image; {_image_advice(manifest)}"
            )
        yield f"{name} {found}"


def _check_driver(manifest: Manifest) -> Iterator[str]:
    if not manifest["driver"]:
        return
    found = nvidia_driver()
    if not found or _numbers(found)[0] < manifest["driver"]:
        raise InstallError(
            f"wrong NVIDIA driver: found {found or 'none'}, expected {manifest['driver']} or newer for profile "
            f"{manifest['profile']}; switch a GPU on in the notebook's settings, or install with --without-gpu"
        )
    yield f"driver {found}"


def nvidia_driver() -> str:
    """The version of the NVIDIA driver, by nvidia-smi; empty where there is none."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode().partition("\n")[0].strip()


def _image_advice(manifest: Manifest) -> str:
    image = manifest["image"]
    return f"pin the notebook to docker image {image}" if image else "build a bundle of the profile that fits"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split("+")[0].split(".") if part.isdigit()]


def installed(name: str) -> str | None:
    """The version of a package in this environment; None where it is not there."""
    importlib.invalidate_caches()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# Installing -----------------------------------------------------------------------------------------------------------


def install(folder: Path, without_gpu: bool = False, use_uv: bool = True, say: Callable[[str], None] = print) -> None:
    """Check a bundle and this machine, install the bundle, and see that it works. Raises InstallError."""
    try:
        _install(folder, without_gpu, use_uv, say)
    except OSError as error:
        place = error.filename or tempfile.gettempdir()
        raise InstallError(
            f"{place}: {error.strerror}; delete files if the disk is full, or set TMPDIR to a folder with room"
        ) from error


def _install(folder: Path, without_gpu: bool, use_uv: bool, say: Callable[[str], None]) -> None:
    started, manifest = time.monotonic(), load_manifest(folder)
    say(f"bundle {folder}: profile {manifest['profile']}, {len(manifest['wheels'])} wheels")
    say("checked: " + ", ".join(check_machine(manifest, without_gpu)))
    check_files(folder, manifest)
    new = [wheel for wheel in manifest["wheels"] if installed(wheel["name"]) != wheel["version"]]
    gone = [name for name in manifest["removes"] if installed(name)]
    check_space(new, Path(sysconfig.get_path("purelib")))
    with tempfile.TemporaryDirectory(prefix="arc-kaggle-") as temp:
        tool = Tool(stage(folder, manifest, Path(temp) / "wheels"), manifest, use_uv)
        tool.resolve()
        say(f"{len(new)} packages to install by {tool.name}, {len(gone)} to remove{_some(gone, ': ')}")
        packages, wheels = [*(wheel["name"] for wheel in new), *gone], [tool.wheels / wheel["wheel"] for wheel in new]
        before = Snapshot(packages, wheels, Path(temp) / "before")
        try:
            tool.remove(gone)
            tool.install()
            check_works(manifest, without_gpu)
        except BaseException as error:
            before.restore()
            if isinstance(error, InstallError):
                raise InstallError(f"{error}; the packages that were there before are back") from error
            raise
    say(f"installed, imported and run forward in {time.monotonic() - started:.0f} s")


def check_space(wheels: Sequence[Manifest], folder: Path) -> None:
    """The disk has room for what the wheels unpack to. Raises InstallError."""
    needed, free = SPARE * sum(wheel["unpacked"] for wheel in wheels), shutil.disk_usage(folder).free
    if free < needed:
        raise InstallError(
            f"disk full: found {free / 1e9:.2f} GB free at {folder}, expected {needed / 1e9:.2f} GB; delete files "
            "there, or take a smaller profile"
        )


class Tool:
    """pip or uv, told to look at nothing but a folder of wheels."""

    def __init__(self, wheels: Path, manifest: Manifest, use_uv: bool) -> None:
        self.wheels = wheels
        self.uv = shutil.which("uv") if use_uv else None
        self.name = "uv" if self.uv else "pip"
        if self.uv is None and installed("pip") is None:
            raise InstallError(
                f"no pip: found neither uv nor pip for {sys.executable}; run {sys.executable} -m ensurepip"
            )
        self.words = ["--no-index", "--find-links", str(wheels), "--only-binary", ":all:"]
        self.words += [wheel["name"] + "==" + wheel["version"] for wheel in manifest["wheels"]]
        self.words += [f"{name}=={installed(name)}" for name in manifest["keeps"]]

    def resolve(self) -> None:
        """All requirements are met by the wheels and by what is there already. Changes nothing. Raises InstallError."""
        self._run("install", ["--dry-run", *self.words], "the wheels do not go together with what is installed here")

    def install(self) -> None:
        self._run("install", self.words if self.uv else ["--no-compile", *self.words], "the installation failed")

    def remove(self, names: Sequence[str]) -> None:
        if names:
            self._run("uninstall", names if self.uv else ["--yes", *names], "packages cannot be removed")

    def _run(self, verb: str, words: Sequence[str], failure: str) -> None:
        if self.uv:
            program = [self.uv, "pip", verb, "--python", sys.executable, "--break-system-packages", "--no-cache"]
            _run([*program, "--offline", *words], failure)
        else:
            quiet = ["--quiet", "--no-input", "--root-user-action=ignore"]
            _run([sys.executable, "-m", "pip", verb, *quiet, *words], failure)


def _run(words: Sequence[str], failure: str) -> None:
    """Run a program away from every index and setting of the user. Raises InstallError with what it said last."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    ours = {**ours, "PIP_CONFIG_FILE": os.devnull, "PIP_BREAK_SYSTEM_PACKAGES": "1", "UV_NO_CONFIG": "1", **OFFLINE}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ours, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        said = " | ".join(lines[-4:]) or "nothing"
        raise InstallError(f"{failure} (exit code {done.returncode}): {said}")


def check_works(manifest: Manifest, without_gpu: bool) -> None:
    """What was installed can be imported, and the model in the box takes a step under LoRA. Raises InstallError."""
    names = [name for name in manifest["imports"] if not (without_gpu and name in manifest["gpu_imports"])]
    forward = "arc_kaggle" in names
    for name in names:
        if not (forward and name in FORWARD_IMPORTS):
            _check_import(name)
    if forward:
        try:
            _run([sys.executable, "-c", FORWARD_PASS], "the model in the box cannot be run forward")
        except InstallError:
            for name in names:  # one that cannot be imported says more
                _check_import(name)
            raise


def _check_import(name: str) -> None:
    _run([sys.executable, "-c", f"import {name}"], f"package {name} cannot be imported")


class Snapshot:
    """What an installation is going to touch, as it is before: files that will go, places where nothing is."""

    def __init__(self, packages: Sequence[str], wheels: Sequence[Path], folder: Path) -> None:
        self.versions = {name: installed(name) for name in packages}
        self.free = {place for wheel in wheels for place in _free_places(wheel)}
        self.scripts = Path(sysconfig.get_path("scripts"))
        self.script_names = set(os.listdir(self.scripts))
        self.files: dict[Path, Path] = {}
        folder.mkdir()
        there = [name for name, version in self.versions.items() if version]
        for path in (Path(str(each.locate())) for name in there for each in metadata.files(name) or ()):
            if path.is_file():
                self.files[path] = second_name(path, folder / str(len(self.files)))

    def restore(self) -> None:
        """Put things back. Raises InstallError where that does not come out right."""
        for place in (*self.free, *(self.scripts / name for name in os.listdir(self.scripts))):
            if place.parent != self.scripts or place.name not in self.script_names:
                _delete(place)
        for path, copy in self.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _delete(path)
            second_name(copy, path)
        if wrong := [name for name, version in self.versions.items() if installed(name) != version]:
            raise InstallError(f"packages {_some(wrong)} could not be put back: restart the session before going on")


def _free_places(wheel: Path) -> set[Path]:
    """Files and folders that do not exist and that installing a wheel makes; of nested ones the outermost."""
    site, places = Path(sysconfig.get_path("purelib")), set()
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".." not in name]
    for name in names:
        head, _, rest = name.partition("/")
        _, _, inside = rest.partition("/")  # NAME.data/purelib/... goes to the site too, NAME.data/data/... does not
        to_data = head.endswith(".data") and rest.startswith("data/")
        base = Path(sysconfig.get_path("data")) if to_data else site
        path = base / (inside if head.endswith(".data") else name)
        while not path.parent.exists():
            path = path.parent
        if not path.exists():
            places.add(path)
    return places


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def second_name(path: Path, into: Path) -> Path:
    """A second name for a file; a copy where the file system has none."""
    try:
        os.link(path, into)
    except OSError:
        shutil.copy2(path, into)
    return into


def _some(names: Sequence[str], before: str = "") -> str:
    return (before + ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")) if names else ""


def unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 installed, 2 not installed."""
    parser = argparse.ArgumentParser(description="Install a wheel bundle without a network.")
    root = default_root()
    parser.add_argument("--root", type=Path, default=root, help=f"where to look for the bundle ({root})")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder, instead of looking for it")
    parser.add_argument("--without-gpu", action="store_true", help="neither ask for a driver nor import what needs one")
    parser.add_argument("--no-uv", action="store_true", help="install by pip even where there is uv")
    chosen = parser.parse_args(arguments)
    try:
        folder = chosen.bundle or choose_bundle(chosen.root, Path(__file__).resolve().parent)
        install(folder, chosen.without_gpu, not chosen.no_uv, lambda line: print(line, flush=True))
    except InstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
