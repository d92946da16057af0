"""pip and uv as programs, and the two kinds of wheel that are made here: the project's own, and stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from arc_kaggle.errors import BundleError

PROJECT_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


def run_tool(words: Sequence[str], failure: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a program quietly. Raises BundleError with what it said last."""
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BundleError(f"{failure} (exit code {done.returncode}): {' '.join(lines[-6:]) or 'nothing was said'}")


def run_pip(words: Sequence[str], failure: str) -> None:
    """pip of this environment with the user's own settings. Raises BundleError."""
    run_tool([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], failure)


def run_uv(words: Sequence[str], failure: str) -> None:
    """uv without settings that would change what comes out; an index of the user's stays. Raises BundleError."""
    beside = shutil.which("uv", path=os.path.dirname(sys.executable))
    program = beside or shutil.which("uv")
    if program is None:
        raise BundleError("program uv: found none, expected one on PATH; run `pip install uv`")
    environment = {name: value for name, value in os.environ.items() if name not in ("UV_FIND_LINKS", "UV_CONSTRAINT")}
    run_tool([program, "--no-config", "--quiet", *words], failure, environment)


def own_wheel(project: Path, into: Path) -> Path:
    """The wheel of the project in a checkout, with the model in the box. Raises BundleError."""
    if not (project / "setup.py").is_file():
        raise BundleError(
            f"folder {project}: found no setup.py, expected a checkout of the project; name one by --project"
        )
    source, wheels = into / "source", into / "own"
    source.mkdir(parents=True)  # a build leaves files behind: not in the checkout
    for name in PROJECT_FILES:
        if (project / name).is_file():
            shutil.copy(project / name, source)
    for folder in project.glob("*/__init__.py"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder.parent, source / folder.parent.name, ignore=ignored)
    run_pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)], f"{project}: no wheel could be built")
    return next(wheels.glob("*.whl"))


def write_stand_in(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """An empty wheel that stands for a package in a resolution, such as for torch of the image."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    path, info = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
    asked = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{asked}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: arc_kaggle\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD")))
    return path
