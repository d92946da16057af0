"""Installing a wheel bundle: into real environments, with the network cut, and with everything that can be wrong."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from bundles import PYTHON, TINY, write_bundle, write_wheel

from arc_kaggle.cli import main
from arc_kaggle.errors import BundleError
from arc_kaggle.kaggle.bundle import installer
from arc_kaggle.kaggle.bundle.build import BuildConfig, build
from arc_kaggle.kaggle.bundle.installer import MANIFEST_FILE, find_bundles
from arc_kaggle.kaggle.bundle.verify import verify

DEAD = "http://127.0.0.1:9"
NO_NETWORK = {name: DEAD for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}


def can(*words: str) -> bool:
    return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0


CUT = ["unshare", "-rn"] if os.path.exists("/usr/bin/unshare") and can("unshare", "-rn") else []
"""A network namespace without a network, where the system allows one; proxies lead nowhere in any case."""


class Environment:
    """A virtual environment, in which bundles are installed without a network."""

    def __init__(self, folder: Path, *flags: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", *flags, str(folder)], check=True)
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/*/site-packages"))
        self.first = set(self.site.iterdir())

    def run(self, *words: str, cut: Sequence[str] = CUT, **more: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where uv is
        environment = {**os.environ, **NO_NETWORK, "PATH": path, **more}
        for ours in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):  # torch is imported several times, and compiled once
            environment.pop(ours, None)
        line = [*cut, str(self.python), *words]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    def unpack(self, *wheels: Path) -> None:
        """Have these packages and no others, beside pip."""
        for path in set(self.site.iterdir()) - self.first:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.site)

    def packages(self) -> dict[str, str]:
        """Every package but pip and its like, with its version."""
        there = [path.stem for path in set(self.site.iterdir()) - self.first if path.suffix == ".dist-info"]
        names = [stem.split("-") for stem in there]
        assert len({name for name, _ in names}) == len(names), there
        return {name: version for name, version in names}

    def files(self) -> dict[str, bytes]:
        """What lies in its site and beside its python."""
        places = [*(set(self.site.iterdir()) - self.first), self.python.parent]
        paths = [each for place in places for each in (place.rglob("*") if place.is_dir() else [place])]
        return {str(path): path.read_bytes() for path in paths if path.is_file() and path.suffix != ".pyc"}


@pytest.fixture(autouse=True)
def spare_the_environment_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installations happen in processes of other environments; in this one none gets that far, whatever breaks."""

    def refuse(words: Sequence[str], failure: str) -> None:
        raise AssertionError(f"about to run {words}")

    monkeypatch.setattr(installer, "_run", refuse)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture
def environment(fresh: Environment, tmp_path: Path) -> Environment:
    """alpha 0.9 and gamma 1.0 are there already; beta is not."""
    fresh.unpack(write_wheel(tmp_path, "alpha", "0.9"), write_wheel(tmp_path, "gamma", code="here = True"))
    assert fresh.packages() == {"alpha": "0.9", "gamma": "1.0"}
    return fresh


def wheels(folder: Path, code: str = "", requires: Sequence[str] = ("beta",)) -> list[Path]:
    """alpha, which asks for beta. Both are compiled code for this machine by their names."""
    a = write_wheel(folder, "alpha", "1.0+cu128", requires, code)
    return [a, write_wheel(folder, "beta", tag=str(TINY.tags[0]))]


def mounted(tmp_path: Path, place: str = "datasets/me/wheels", code: str = "", **options: object) -> Path:
    """A bundle of alpha and beta below tmp_path/input, with any options of a Profile."""
    chosen = {"imports": ("alpha", "beta"), "removes": ("gamma", "delta"), **options}
    return write_bundle(tmp_path / "input" / place, wheels(tmp_path / "made", code), ["alpha"], **chosen)


# Whole installations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "flags"), [("wheels", ["--no-uv"]), ("datasets/me/wheels", [])])
def test_a_bundle_is_found_and_installed_wherever_it_is_mounted(
    place: str, flags: list[str], environment: Environment, tmp_path: Path
) -> None:
    folder = mounted(tmp_path, place)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for new, gone in ((2, 1), (0, 0)):  # the second time there is nothing left to do
        done = environment.run(str(folder / "install.py"), "--root", str(tmp_path / "input"), *flags)
        assert done.returncode == 0, done.stderr
        assert f"bundle {folder}: profile tiny, 2 wheels\nchecked: Python {PYTHON}, glibc" in done.stdout
        assert f"{new} packages to install by {'pip' if flags else 'uv'}, {gone} to remove" in done.stdout
    assert environment.packages() == {"alpha": "1.0+cu128", "beta": "1.0"}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("flags", [["--no-uv"], []], ids=["pip", "uv"])
def test_what_the_image_keeps_stays_and_is_built_upon(
    flags: list[str], environment: Environment, tmp_path: Path
) -> None:
    made = [write_wheel(tmp_path / "made", "alpha", requires=["gamma==1.0"])]
    folder = write_bundle(tmp_path / "input" / "wheels", made, ["alpha"], imports=("alpha",), keeps={"gamma": "1.0"})
    done = environment.run(str(folder / "install.py"), "--bundle", str(folder), *flags)
    assert done.returncode == 0, done.stderr
    assert f"glibc {TINY.glibc}, gamma 1.0\n1 packages to install" in done.stdout
    assert environment.packages() == {"alpha": "1.0", "gamma": "1.0"}


@pytest.mark.skipif(not CUT, reason="the system allows no mount of its own")
def test_a_bundle_on_a_read_only_mount(environment: Environment, tmp_path: Path) -> None:
    folder = mounted(tmp_path)
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'
    cut = ["unshare", "-rmn", "sh", "-c", script, str(tmp_path / "input")]
    done = environment.run(str(folder / "install.py"), "--root", str(tmp_path / "input"), cut=cut)
    assert done.returncode == 0, done.stderr
    assert environment.packages() == {"alpha": "1.0+cu128", "beta": "1.0"}


def test_the_command_installs_as_the_file_in_the_bundle_does(environment: Environment, tmp_path: Path) -> None:
    folder = mounted(tmp_path, imports=())
    words = ["bundle", "install", "--root", str(tmp_path / "input"), "--no-uv"]
    code = f"import sys; sys.path[:0] = {[*sys.path]!r}; from arc_kaggle.cli import main; sys.exit(main({words!r}))"
    done = environment.run("-c", code)
    assert f"bundle {folder}: profile tiny" in done.stdout, done.stderr
    assert done.returncode == 0 and environment.packages()["beta"] == "1.0"


def break_archive(wheel: Path) -> None:
    """It can be resolved, but its code does not come out of the archive; what it depends on is installed by then."""
    data = wheel.read_bytes()
    assert data.count(b"version = '1.0+cu128'") == 1
    wheel.write_bytes(data.replace(b"version = '1.0+cu128'", b"version = '1.0+cu129'"))


@pytest.mark.parametrize("flags", [["--no-uv"], []], ids=["pip", "uv"])
@pytest.mark.parametrize("fault", ["import", "install"])
def test_what_fails_on_the_way_leaves_everything_as_it_was(
    fault: str, flags: list[str], environment: Environment, tmp_path: Path
) -> None:
    folder, before = tmp_path / "input" / "wheels", environment.files()
    made = wheels(tmp_path / "made", "raise ValueError('broken')" if fault == "import" else "")
    if fault == "install":
        break_archive(made[0])
    write_bundle(folder, made, ["alpha"], imports=("alpha",), removes=("gamma",))
    done = environment.run(str(folder / "install.py"), "--root", str(tmp_path / "input"), *flags)
    message = {"import": "package alpha cannot be imported (exit code 1)", "install": "the installation failed"}[fault]
    assert done.returncode == 2 and f"install: {message}" in done.stderr
    assert done.stderr.endswith("; the packages that were there before are back\n") and "Traceback (" not in done.stderr
    assert environment.files() == before
    assert environment.run("-c", "import alpha, gamma; assert alpha.version == '0.9' and gamma.here").returncode == 0


@pytest.mark.parametrize("flags", [["--no-uv"], []], ids=["pip", "uv"])
def test_wheels_that_do_not_go_together_are_refused_before_anything_changes(
    flags: list[str], environment: Environment, tmp_path: Path
) -> None:
    folder = tmp_path / "input" / "wheels"
    write_bundle(folder, wheels(tmp_path / "made", requires=["beta", "omega"]), ["alpha"], removes=("gamma",))
    done = environment.run(str(folder / "install.py"), "--root", str(tmp_path / "input"), *flags)
    assert done.returncode == 2
    assert "install: the wheels do not go together with what is installed here" in done.stderr
    assert "omega" in done.stderr and "back" not in done.stderr
    assert environment.packages() == {"alpha": "0.9", "gamma": "1.0"}


# Faults that are found before anything is changed ---------------------------------------------------------------------


def spoil_manifest(bundle: Path, **values: Any) -> None:
    value = json.loads((bundle / MANIFEST_FILE).read_text())
    (bundle / MANIFEST_FILE).write_text(json.dumps({**value, **values}))


def flip_byte(bundle: Path) -> None:
    path = next(bundle.glob("beta*.whl"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def make_huge(bundle: Path) -> None:
    wheels = json.loads((bundle / MANIFEST_FILE).read_text())["wheels"]
    spoil_manifest(bundle, wheels=[{**wheel, "unpacked": 10**18} for wheel in wheels])


IMAGE = "gcr.io/x@sha256:1"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "wrong Python": (
        lambda bundle: spoil_manifest(bundle, python="3.8", image=IMAGE),
        f"wrong Python: found CPython {PYTHON} on {TINY.machine}, expected CPython 3.8 on {TINY.machine} for profile "
        f"tiny; pin the notebook to docker image {IMAGE}",
    ),
    "wrong glibc": (
        lambda bundle: spoil_manifest(bundle, glibc="2.99"),
        f"wrong C library: found glibc {TINY.glibc}, expected glibc 2.99 or newer",
    ),
    "torch mismatch": (
        lambda bundle: spoil_manifest(bundle, keeps={"numpy": "1.0+cu128"}, image=IMAGE),
        f"expected 1.0+cu128, which profile tiny takes from the image; pin the notebook to docker image {IMAGE}",
    ),
    "no torch": (
        lambda bundle: spoil_manifest(bundle, keeps={"torchless": "1.0"}),
        "torchless mismatch: found none, expected 1.0",
    ),
    "no driver": (
        lambda bundle: spoil_manifest(bundle, driver=580),
        "wrong NVIDIA driver: found none, expected 580 or newer for profile tiny; switch a GPU on",
    ),
    "missing wheel": (
        lambda bundle: next(bundle.glob("beta*.whl")).unlink(),
        "1 of 2 wheels are missing: beta-1.0-",
    ),
    "flipped byte": (flip_byte, "found SHA-256"),
    "disk full": (make_huge, "expected 2100000000.00 GB; delete files there, or take a smaller profile"),
    "no bundle": (
        lambda bundle: (bundle / MANIFEST_FILE).unlink(),
        "no bundle: found no folder with a manifest.json of a wheel bundle below",
    ),
    "another manifest": (
        lambda bundle: (bundle / MANIFEST_FILE).write_text("[]"),
        "no bundle: found no folder with a manifest.json of a wheel bundle below",
    ),
    "two bundles": (
        lambda bundle: write_bundle(bundle.parents[1] / "other", [], []),
        "(tiny); expected one: detach the others, or name one by --bundle",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_one_clear_message(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    spoil, message = FAULTS[fault]
    spoil(mounted(tmp_path))
    assert installer.main(["--root", str(tmp_path / "input")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("install: ") and error.count("\n") == 1 and message in error
    assert main(["bundle", "install", "--root", str(tmp_path / "input")]) == 2
    assert capsys.readouterr().err == error.replace("install: ", "arc-kaggle: ", 1)


def test_a_full_disk_on_the_way_is_a_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    with pytest.raises(installer.InstallError, match="TMPDIR"):
        installer.install(mounted(tmp_path), say=lambda line: None)


@pytest.mark.parametrize(("version", "enough"), [("580.65.06", True), ("579.99", False), ("", False)])
def test_a_driver_is_asked_for_its_version(
    version: str, enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    manifest = {**json.loads((mounted(tmp_path) / MANIFEST_FILE).read_text()), "driver": 580}
    if enough:
        assert f"driver {version}" in installer.check_machine(manifest)
    else:
        with pytest.raises(installer.InstallError, match=f"found {version or 'none'}, expected 580 or newer"):
            installer.check_machine(manifest)
    assert not any("driver" in found for found in installer.check_machine(manifest, without_gpu=True))


@pytest.mark.parametrize(("kept", "fits"), [("2.0", True), ("2.0+cu128", True), ("2.0+cu130", False), ("2.1", False)])
def test_a_kept_package_may_be_any_build_unless_one_is_named(
    kept: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "installed", lambda name: "2.0+cu128")
    manifest = {"keeps": {"torch": kept}, "profile": "x", "image": ""}
    if fits:
        assert list(installer._check_kept(manifest)) == ["torch 2.0+cu128"]
    else:
        with pytest.raises(installer.InstallError, match=r"torch mismatch: found 2.0\+cu128, expected"):
            list(installer._check_kept(manifest))


@pytest.mark.parametrize(
    ("broken", "said"), [("import peft", "package peft cannot"), ("", "the model in the box cannot")]
)
def test_the_package_that_breaks_the_forward_pass_is_named(
    broken: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is imported by the forward pass, once; what it does not import, and each alone after it failed, by itself."""
    ran: list[str] = []

    def run(words: Sequence[str], failure: str) -> None:
        ran.append(words[-1])
        if fails and words[-1] in (installer.FORWARD_PASS, broken):
            raise installer.InstallError(failure)

    monkeypatch.setattr(installer, "_run", run)
    manifest = {"imports": ["torch", "peft", "vllm", "arc_kaggle"], "gpu_imports": []}
    fails = False
    installer.check_works(manifest, without_gpu=False)
    assert ran == ["import vllm", installer.FORWARD_PASS]
    fails = True
    with pytest.raises(installer.InstallError, match=said):
        installer.check_works(manifest, without_gpu=False)


def test_a_bundle_by_itself_needs_no_mount(tmp_path: Path) -> None:
    folder = mounted(tmp_path)
    assert installer.choose_bundle(tmp_path / "nowhere", beside=folder) == folder
    assert find_bundles(tmp_path) == [folder]


def test_the_file_in_a_bundle_is_plain_python() -> None:
    code = Path(installer.__file__).read_text(encoding="utf-8")
    tree = ast.parse(code, feature_version=(3, 8))
    names = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
    assert isinstance(tree.body[1], ast.ImportFrom) and tree.body[1].module == "__future__"


# The real thing -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif("ARC_KAGGLE_REAL_MODEL" not in os.environ, reason="make test-real runs it, for all it downloads")
def test_a_bundle_for_this_machine_makes_a_fresh_environment_that_runs(tmp_path: Path) -> None:
    """torch and all, downloaded by pip, installed in a new environment with the network cut."""
    folder = tmp_path / "input" / "datasets" / "me" / "wheels"
    text = build(BuildConfig("here", folder))
    assert f"hashes, tags and completeness are right for CPython {PYTHON}" in text
    assert not any("+" in path.name for path in folder.iterdir())
    environment = Environment(tmp_path / "venv", "--without-pip")
    done = environment.run(str(folder / "install.py"), "--root", str(tmp_path / "input"), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "installed, imported and run forward" in done.stdout
    assert environment.run("-m", "arc_kaggle.cli", "--help").returncode == 0


@pytest.mark.parametrize("key", ["file", "wheel"])
@pytest.mark.parametrize("name", ["../../evil.whl", "/tmp/evil.whl", "a\\evil.whl", "a\0.whl", "..", "", None, 3])
def test_a_wheel_that_is_named_outside_of_its_bundle_is_refused(key: str, name: object, tmp_path: Path) -> None:
    folder = mounted(tmp_path)
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["wheels"][0][key] = name
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(installer.InstallError, match=r"manifest.json: found .*, expected the name of a .whl file"):
        installer.install(folder)
    with pytest.raises(BundleError, match=r"manifest.json: found .*, expected the name of a .whl file"):
        verify(folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("wheels", [None, 3, "x", {}, ["a.whl"], [[]]])
def test_a_manifest_whose_wheels_are_no_list_of_wheels_is_refused(wheels: object, tmp_path: Path) -> None:
    folder = mounted(tmp_path)
    manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "wheels": wheels}), encoding="utf-8")
    with pytest.raises(installer.InstallError, match=r"manifest.json: found .*, expected the name of a .whl file"):
        installer.install(folder)
