"""The wheel bundle before it is installed: profiles, locks, building, verifying, and the metadata of weights."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import PYTHON, TARGET, TINY, write_bundle, write_wheel

from arc_kaggle.cli import main
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.errors import ArcKaggleError, BundleError, ConfigError, ModelError
from arc_kaggle.kaggle.bundle.build import BuildConfig, build, build_profile, download
from arc_kaggle.kaggle.bundle.installer import MANIFEST_FILE, sha256
from arc_kaggle.kaggle.bundle.lock import LockConfig, LockedWheel, best_wheel, lock, read_asks, read_lock, resolve
from arc_kaggle.kaggle.bundle.manifest import kaggle_name, licence_of
from arc_kaggle.kaggle.bundle.profile import CHECKOUT, PROFILES, Profile, find_profile
from arc_kaggle.kaggle.bundle.verify import verify
from arc_kaggle.kaggle.bundle.weights import WeightsConfig, describe_weights
from arc_kaggle.models.loading import load_model

WHEELS = CHECKOUT / "wheels"

# Profiles and their locks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_a_lock_holds_wheels_for_its_target_and_what_was_asked_for(name: str) -> None:
    profile, locked = PROFILES[name], read_lock(WHEELS / f"{name}.txt")
    pins = {f"{wheel.name}=={wheel.version}" for wheel in locked}
    tags = set(profile.tags)
    assert [wheel.file for wheel in locked if not tags & best_tags(wheel)] == []
    assert {asked.replace("_", "-") for asked in read_asks(CHECKOUT, profile)} <= pins
    assert len(pins) == len(locked) == len({wheel.file for wheel in locked}) and "arc-kaggle" not in str(pins)
    assert {wheel.name for wheel in locked} & profile.keeps.keys() == set()
    assert 6 <= len(f"arc_kaggle wheels {name}") <= 50


def best_tags(wheel: LockedWheel) -> set[Any]:
    from packaging.utils import parse_wheel_filename

    name, version, _, tags = parse_wheel_filename(wheel.file)
    assert (name, str(version)) == (wheel.name, wheel.version)
    return set(tags)


@pytest.mark.parametrize("name", PROFILES)
def test_a_lock_says_when_it_was_made_for_what_and_whether_it_was_tested(name: str) -> None:
    profile = PROFILES[name]
    lines = (WHEELS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    head = "".join(line for line in lines if line.startswith("#"))
    assert re.search(rf"Resolved on 20\d\d-\d\d-\d\d for CPython {profile.python}, glibc 2.35", head)
    assert ("UNTESTED" in head) == (profile.tested == "")


def test_no_lock_names_where_packages_were_found() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in WHEELS.iterdir()}
    assert [name for name, text in texts.items() if re.search(r"https?://|file:|index-url", text)] == []
    assert not list(WHEELS.glob("*.whl"))


@pytest.mark.parametrize("name", [name for name, profile in PROFILES.items() if profile.keeps])
def test_what_a_profile_keeps_is_what_its_image_has(name: str) -> None:
    freeze = (WHEELS / PROFILES[name].freeze).read_text(encoding="utf-8").splitlines()
    assert "source" in freeze[1] or "as of" in freeze[0] + freeze[1]
    for package, version in PROFILES[name].keeps.items():
        assert any(re.fullmatch(rf"{package}=={re.escape(version)}(\+cu128)?", line) for line in freeze)


def test_an_unknown_profile_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(BundleError, match=r"profile 'smal-py312': no such profile.*nearest: small-py312"):
        find_profile("smal-py312")


def test_platforms_and_tags_of_a_target() -> None:
    platforms = TARGET.platforms
    assert platforms[0] == "manylinux_2_35_x86_64" and platforms[-2:] == ["manylinux1_x86_64", "linux_x86_64"]
    assert {"manylinux2014_x86_64", "manylinux_2_5_x86_64"} <= set(platforms)
    assert "manylinux_2_36_x86_64" not in platforms and "manylinux_2_4_x86_64" not in platforms
    tags = list(map(str, TARGET.tags))
    assert tags[0] == "cp312-cp312-manylinux_2_35_x86_64" and tags[-1].endswith("none-any")
    assert "cp38-abi3-manylinux2014_x86_64" in tags and "cp313-cp313-manylinux_2_35_x86_64" not in tags


def package(*files: str) -> dict[str, Any]:
    hashes = {"sha256": "0" * 64}
    wheels = [{"url": f"x://x/{file}", "size": i, "hashes": hashes} for i, file in enumerate(files)]
    return {"name": "a", "version": "1.0+cu128", "wheels": wheels}


def test_of_several_wheels_a_lock_takes_the_one_an_installer_would() -> None:
    names = ["a-1.0%2Bcu128-py3-none-any.whl", "a-1.0%2Bcu128-cp312-cp312-manylinux_2_17_x86_64.whl"]
    names += ["a-1.0%2Bcu128-cp312-cp312-manylinux_2_28_x86_64.whl", "a-1.0%2Bcu128-cp313-cp313-win_amd64.whl"]
    wheel = best_wheel(package(*names), TARGET)
    assert (wheel.file, wheel.bytes) == ("a-1.0+cu128-cp312-cp312-manylinux_2_28_x86_64.whl", 2)
    with pytest.raises(BundleError, match=r"package a 1.0\+cu128: found no wheel for target's target"):
        best_wheel(package(names[-1]), TARGET)


def test_a_lock_with_a_bad_line_says_which(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("# head\na==1.0\n")
    with pytest.raises(BundleError, match=r"a.txt, line 2: found 'a==1.0', expected NAME==VERSION"):
        read_lock(path)
    with pytest.raises(BundleError, match="run `arc-kaggle bundle lock`"):
        read_lock(tmp_path / "b.txt")
    with pytest.raises(BundleError, match="has no lock"):
        lock(LockConfig("here"), today=None)  # type: ignore[arg-type]


# Resolutions for a target ---------------------------------------------------------------------------------------------


def resolved(tmp_path: Path, requires: list[str], profile: Profile = TARGET) -> dict[str, str]:
    """What `alpha`, which asks for some packages, resolves to beside a beta 1.0, with no index."""
    write_wheel(tmp_path / "wheels", "alpha", requires=requires)
    write_wheel(tmp_path / "wheels", "beta")
    found = resolve(profile, ["alpha==1.0"], tmp_path, tmp_path / "wheels", offline=True)
    return {package["name"]: package["version"] for package in found}


def test_markers_are_those_of_the_target(tmp_path: Path) -> None:
    asked = ["beta; python_version == '3.12'", "gamma; python_version != '3.12'", "delta; sys_platform != 'linux'"]
    assert resolved(tmp_path, asked) == {"alpha": "1.0", "beta": "1.0"}


def test_a_package_that_the_image_keeps_stands_in_with_its_version(tmp_path: Path) -> None:
    kept = replace(TARGET, keeps={"torch": "2.10.0+cu128"})
    assert resolved(tmp_path, ["torch==2.10.0", "torch>=2.9"], kept) == {"alpha": "1.0"}


def test_a_stand_in_comes_before_the_package_in_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a lock would name all that torch brings along."""
    tag = "cp312-cp312-manylinux_2_28_x86_64"  # of equal versions the resolver takes the wheel with the closer tag
    torch = write_wheel(tmp_path / "index" / "torch", "torch", "2.10.0", requires=["beta"], tag=tag)
    (torch.parent / "index.html").write_text(f'<a href="{torch.name}">{torch.name}</a>')
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    alpha, beta = write_wheel(tmp_path / "wheels", "alpha", requires=["torch==2.10.0"]), write_wheel(tmp_path, "beta")
    beta.rename(alpha.with_name(beta.name))
    for keeps, names in (({"torch": "2.10.0"}, {"alpha"}), ({}, {"alpha", "beta", "torch"})):
        (tmp_path / str(len(keeps))).mkdir()
        found = resolve(replace(TARGET, keeps=keeps), ["alpha"], tmp_path / str(len(keeps)), alpha.parent)
        assert {each["name"] for each in found} == names
    small = [wheel.name for name in PROFILES if "small" in name for wheel in read_lock(WHEELS / f"{name}.txt")]
    assert [name for name in small if name.startswith(("nvidia", "cuda"))] == []


def test_a_package_that_only_an_index_has_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"do not resolve for Python 3\.12.*six"):
        resolved(tmp_path, ["six"])


@pytest.mark.parametrize("version", ["2.10.0+cu128", "2.10.0"])
def test_a_package_that_asks_for_another_torch_does_not_go_with_the_image(tmp_path: Path, version: str) -> None:
    kept = replace(TARGET, keeps={"torch": version})
    with pytest.raises(BundleError, match=r"do not resolve for Python 3.12.*alpha depend on torch>=2.11"):
        resolved(tmp_path, ["torch>=2.11"], kept)


# Building -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all wheels that pip can find."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "source"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path / "source"


def locked(*paths: Path) -> list[LockedWheel]:
    names = [path.name.split("-") for path in paths]
    sizes = [path.stat().st_size for path in paths]
    parts = zip(paths, names, sizes, strict=True)
    return [LockedWheel(name[0], name[1], sha256(path), path.name, size) for path, name, size in parts]


Fetch = Callable[[list[LockedWheel]], list[str]]


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Downloads wheels for TARGET into out/."""
    (tmp_path / "out").mkdir()

    def run(wheels: list[LockedWheel]) -> list[str]:
        temp = tmp_path / "temp"
        temp.mkdir(exist_ok=True)
        return download(TARGET, wheels, tmp_path / "out", temp)

    return run


def test_wheels_are_downloaded_for_the_target_under_kaggles_names(source: Path, fetch: Fetch, tmp_path: Path) -> None:
    a = write_wheel(source, "alpha", "1.0+cu128", tag="cp312-cp312-manylinux_2_35_x86_64")
    b = write_wheel(source, "beta", tag="cp39-abi3-manylinux2014_x86_64")
    assert fetch(locked(a, b)) == [a.name, b.name]
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert there == ["alpha-1.0cu128-cp312-cp312-manylinux_2_35_x86_64.whl", b.name]
    assert sha256(tmp_path / "out" / there[0]) == sha256(a)


def test_wheels_that_are_there_are_kept_and_wrong_ones_replaced(source: Path, fetch: Fetch, tmp_path: Path) -> None:
    a, b = write_wheel(source, "alpha", "1.0+cu128"), write_wheel(source, "beta")
    wanted, digest = locked(a, b), sha256(b)
    fetch(wanted)
    a.unlink()  # whoever asks for it again fails
    flip_byte(tmp_path / "out" / b.name)
    assert fetch(wanted) == [wheel.file for wheel in wanted]
    assert sha256(tmp_path / "out" / b.name) == digest
    (tmp_path / "out" / kaggle_name(wanted[0].file)).unlink()
    with pytest.raises(BundleError, match=r"alpha-1.0\+cu128-py3-none-any.whl cannot be downloaded; run the same com"):
        fetch(wanted)


def test_a_wheel_with_another_hash_than_the_locks_is_refused(source: Path, fetch: Fetch, tmp_path: Path) -> None:
    a = write_wheel(source, "alpha")
    wanted = locked(a)
    write_wheel(source, "alpha", code="evil = True")
    with pytest.raises(BundleError, match=r"(?i)hash"):
        fetch(wanted)
    assert list((tmp_path / "out").iterdir()) == []


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_building_without_a_checkout_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"found no setup\.py, expected a checkout of the project; name one by --proj"
    ):
        build(BuildConfig("small-py312", tmp_path / "out", project=tmp_path))
    assert not (tmp_path / "out" / MANIFEST_FILE).exists()


SETUP = (
    "from setuptools import setup; setup(name='tiny_project', version='2.0', py_modules=[], install_requires=['beta'])"
)


def test_a_bundle_is_built_from_a_lock_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "source"))
    project, out = tmp_path / "project", tmp_path / "out"
    (project / "wheels").mkdir(parents=True)
    (project / "setup.py").write_text(SETUP)
    (project / "wheels" / "target.in").write_text("alpha  # and what it needs\n")
    made = [write_wheel(tmp_path / "source", "alpha", "1.0+cu128"), write_wheel(tmp_path / "source", "beta")]
    (project / "wheels" / "target.txt").write_text("".join(f"{wheel.line}\n" for wheel in locked(*made)))
    (out / ".part-killed").mkdir(parents=True)
    (out / kaggle_name(made[0].name)).write_bytes(made[0].read_bytes())
    made[0].unlink()  # it is there already
    text = build_profile(TARGET, BuildConfig("target", out, owner="me", project=project))
    assert "profile target, 3 wheels" in text and text == verify(out)
    names = [kaggle_name(made[0].name), made[1].name, "tiny_project-2.0-py3-none-any.whl"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*names, "dataset-metadata.json", "install.py", "manifest.json"]
    )
    assert json.loads((out / "dataset-metadata.json").read_text())["id"] == "me/arc-kaggle-target"
    assert json.loads((out / "manifest.json").read_text())["asks"] == ["tiny-project==2.0", "alpha"]
    write_wheel(out, "stranger")
    with pytest.raises(BundleError, match=r"found 1 wheels that are no part of the bundle, such as stranger-1.0"):
        build_profile(TARGET, BuildConfig("target", out, project=project))
    assert not (out / "manifest.json").exists()


def test_licences_are_read_from_a_wheel(tmp_path: Path) -> None:
    assert licence_of(write_wheel(tmp_path, "alpha")) == "MIT"


# Verifying ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """alpha 1.0+cu128, which asks for beta and for the image's torch."""
    a = write_wheel(tmp_path / "made", "alpha", "1.0+cu128", requires=["beta", "torch==2.10.0"])
    b = write_wheel(tmp_path / "made", "beta", tag="cp312-cp312-manylinux_2_28_x86_64")
    return write_bundle(tmp_path / "bundle", [a, b], ["alpha"], TARGET, keeps={"torch": "2.10.0+cu128"})


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((bundle / MANIFEST_FILE).read_text())
    edit(value)
    (bundle / MANIFEST_FILE).write_text(json.dumps(value))


def test_a_bundle_that_is_right(bundle: Path) -> None:
    text = verify(bundle)
    size = sum(path.stat().st_size for path in bundle.glob("*.whl"))
    assert f"profile target, 2 wheels, {size / 1e6:.1f} MB" in text
    assert "right for CPython 3.12, glibc 2.35; the image keeps torch 2.10.0+cu128" in text


BETA = "beta-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"


def drop_beta(bundle: Path) -> None:
    edit_manifest(bundle, lambda value: value["wheels"].pop())


def old_python(bundle: Path) -> None:
    edit_manifest(bundle, lambda value: value.update(python="3.11"))


def nothing_asks(bundle: Path) -> None:
    edit_manifest(bundle, lambda value: value.update(asks=["beta"]))


def other_version(bundle: Path) -> None:
    edit_manifest(bundle, lambda value: value["wheels"][1].update(version="1.1"))


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda bundle: (bundle / BETA).unlink(), f"1 of 2 wheels are missing: {BETA}; upload the bundle again, or build"),
    (lambda bundle: flip_byte(bundle / BETA), rf"{BETA}: found SHA-256 \w+..., expected \w+...; upload the bundle ag"),
    (lambda bundle: (bundle / BETA).write_bytes(b"x"), rf"{BETA}: found 1 bytes, expected \d+"),
    (lambda bundle: (bundle / MANIFEST_FILE).unlink(), "found no manifest.json.*one is not finished: run"),
    (drop_beta, "do not resolve for Python 3.12.*beta"),
    (old_python, f"wheel {BETA}: runs on cp312-cp312-manylinux_2_28_x86_64, expected one for CPython 3.11"),
    (nothing_asks, "nothing asks for alpha"),
    (other_version, f"wheel {BETA}: found as beta 1.1 in the manifest"),
    (
        lambda bundle: edit_manifest(bundle, lambda value: value.pop("glibc")),
        "found no 'glibc'; build the bundle again",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=[message[:30] for _, message in FAULTS])
def test_what_is_wrong_with_a_bundle_is_one_clear_message(
    spoil: Callable[[Path], object], message: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(bundle)
    assert main(["bundle", "verify", str(bundle)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err), captured.err


# Weights --------------------------------------------------------------------------------------------------------------


def test_a_model_folder_is_described_with_sizes_and_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(BOX_FOLDER, tmp_path / "My_box 1")
    for _ in range(2):  # what it writes is no part of what it describes
        assert main(["bundle", "model", str(folder), "--owner", "me", "--licence", "CC0-1.0"]) == 0
    value, dataset = (json.loads((folder / name).read_text()) for name in ("weights.json", "dataset-metadata.json"))
    assert dataset["id"] == "me/arc-kaggle-my-box-1" and dataset["licenses"] == [{"name": "CC0-1.0"}]
    sizes = {path.name: path.stat().st_size for path in BOX_FOLDER.iterdir()}
    assert {each["file"]: each["bytes"] for each in value["files"]} == sizes
    assert value["kind"] == "model" and value["base"] is None and value["bytes"] == sum(sizes.values())
    digests = {each["file"]: each["sha256"] for each in value["files"]}
    assert digests["model.safetensors"] == sha256(BOX_FOLDER / "model.safetensors")
    assert f"model, {len(sizes)} files" in capsys.readouterr().out


def test_what_a_run_needs_is_taken_and_the_checkpoints_stay_behind(tmp_path: Path) -> None:
    folder = shutil.copytree(BOX_FOLDER, tmp_path / "trained")
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    for name in ("checkpoints/step-1/model.safetensors", "checkpoints/step-1/state.pt", "log.jsonl", ".lock"):
        (folder / name).write_bytes(b"x" * 1000)
    with pytest.raises(ModelError, match=r"found 4 files \(0.0 MB\) that no run needs, such as .lock; name a folder"):
        describe_weights(WeightsConfig(folder))
    assert not (folder / "weights.json").exists()
    out = tmp_path / "upload"
    assert f"upload: model, {len(list(BOX_FOLDER.iterdir()))} files" in describe_weights(WeightsConfig(folder, out))
    assert {path.name for path in out.iterdir()} == {
        *(path.name for path in BOX_FOLDER.iterdir()),
        *("weights.json", "dataset-metadata.json"),
    }
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in BOX_FOLDER.iterdir())
    assert load_model(out).notation.encoder.spec == load_model(BOX_FOLDER).notation.encoder.spec
    with pytest.raises(ConfigError, match=r"upload: cannot be made \(File exists\); take another --out"):
        describe_weights(WeightsConfig(folder, out))


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "qwen"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    assert "adapter on qwen, 2 files" in describe_weights(WeightsConfig(tmp_path, slug="my-adapter"))
    assert json.loads((tmp_path / "weights.json").read_text())["base"] == "qwen"


@pytest.mark.parametrize(
    ("files", "title", "error", "message"),
    [
        ([], "", ModelError, "found no .*safetensors, expected weights or an adapter"),
        (["model.safetensors"], "", ModelError, "found neither config.json nor adapter_config.json"),
        (["model.safetensors", "config.json"], "", ModelError, "found no tokenizer.json"),
        (
            ["model.safetensors", "config.json", "tokenizer.json"],
            "short",
            ConfigError,
            "found 5 characters, expected 6",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    files: list[str], title: str, error: type[ArcKaggleError], message: str, tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / file).write_text("{}")
    with pytest.raises(error, match=message):
        describe_weights(WeightsConfig(tmp_path, title=title))
    assert not (tmp_path / "weights.json").exists()


def test_subcommands_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("build", "verify", "install", "model", "lock"):
        with pytest.raises(SystemExit) as end:
            main(["bundle", name, "--help"])
        assert end.value.code == 0
        assert f"usage: arc-kaggle bundle {name}" in capsys.readouterr().out.replace("\n", " ")


def test_this_interpreter_is_a_profile() -> None:
    here = find_profile("here")
    assert (here.python, here.keeps) == (PYTHON, {}) and set(map(str, here.tags)) >= set(map(str, TINY.tags))
