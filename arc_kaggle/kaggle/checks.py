"""The judgement of `arc-kaggle doctor`: each function takes what was found, and gives one finding with advice."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from arc_kaggle.errors import ArcKaggleError, MountError
from arc_kaggle.evaluation.findings import Finding
from arc_kaggle.kaggle.bundle.installer import read_manifest
from arc_kaggle.kaggle.machines import MACHINES, machine_named
from arc_kaggle.kaggle.mounts import TEST_FILE, Mounts
from arc_kaggle.kaggle.probes import Child
from arc_kaggle.run.records import TaskRun
from arc_kaggle.system.hardware import Gpu
from arc_kaggle.tasks.dataset import load_tasks

GIB = 2**30
PYTHONS = ((3, 11), (3, 13))
"""The first and the last that the package accepts."""
LEAST_DRIVER = {12: 525, 13: 580}
"""Driver that user space of a CUDA version needs, by its major."""
LEAST_DISK, LEAST_MEMORY = 1.0, 2.0
"""GiB, without which nothing runs: what a run writes, and a process with torch and a small model."""
TOLD = ("torch", "transformers", "peft", "numpy")
"""Packages whose versions are told where nothing says which are needed."""


def check_python(found: tuple[int, int]) -> Finding:
    name, (first, last) = "python", PYTHONS
    text = f"{platform.python_implementation()} {found[0]}.{found[1]}, glibc {platform.libc_ver()[1] or 'unknown'}"
    if first <= found <= last:
        return Finding(name, "ok", text)
    return Finding(name, "FAILED", text, f"{first[0]}.{first[1]} to {last[0]}.{last[1]}", "pin docker_image")


def check_image(root: Path) -> Finding:
    """The stamp that Kaggle writes into its images."""
    stamps = {name: root / "etc" / name for name in ("git_commit", "build_date")}
    found = {name: path.read_text(errors="replace").strip() for name, path in stamps.items() if path.is_file()}
    if not found:
        return Finding("image", "note", "no stamp in /etc", advice="this is not one of Kaggle's images")
    return Finding("image", "ok", ", ".join(f"{name} {text}" for name, text in found.items()))


def check_gpus(gpus: tuple[Gpu, ...]) -> Finding:
    if not gpus:
        advice = "small models alone are fast enough; set machine_shape in kernel-metadata.json, or Accelerator"
        return Finding("gpus", "note", "none by nvidia-smi", advice=advice)
    each = ", ".join(f"{g.name} {g.memory_gib:.1f} GiB, capability {g.capability}" for g in gpus)
    machine = machine_named("auto", gpus)
    known = next(name for name, m in MACHINES.items() if m == machine) if machine else ""
    found = f"{each}; driver {gpus[0].driver}" + (f"; preset {known}" if known else "")
    if known:
        return Finding("gpus", "ok", found)
    return Finding("gpus", "note", found, advice="no preset knows this machine: give precision and sizes in OPTIONS")


def check_torch(facts: dict[str, Any], probe: Child, gpus: tuple[Gpu, ...]) -> Finding:
    if "gpus" not in facts:
        return Finding("torch", "FAILED", f"cannot be imported, {probe.last_words}", advice="install the wheel bundle")
    cuda = facts["cuda"]
    found = f"{facts['torch']}, CUDA {cuda or 'none'}, sees {facts['gpus']} GPUs"
    if gpus and not facts["gpus"]:
        least = LEAST_DRIVER.get(int(cuda.split(".")[0])) if cuda else None
        advice = (
            f"its CUDA needs driver {least} or newer" if least else "it is a build without CUDA: take another bundle"
        )
        return Finding("torch", "FAILED", f"{found} of {len(gpus)} with driver {gpus[0].driver}", advice=advice)
    if "sums" not in facts:
        return Finding(
            "torch", "FAILED", f"{found}, but cannot compute on them, {probe.last_words}", advice="restart the session"
        )
    return Finding("torch", "ok", found)


def check_disk(free: int) -> Finding:
    if free < LEAST_DISK * GIB:
        return Finding("disk", "FAILED", f"{free / GIB:.1f} GiB free", f"{LEAST_DISK} or more", "remove files")
    return Finding("disk", "ok", f"{free / GIB:.1f} GiB free")


def check_memory(facts: dict[str, Any]) -> Finding:
    if "memory_bytes" not in facts:
        return Finding("memory", "note", "not known: the process that would tell ended before")
    gib = facts["memory_bytes"] / GIB
    if gib < LEAST_MEMORY:
        return Finding("memory", "FAILED", f"{gib:.1f} GiB left", f"{LEAST_MEMORY} or more", "end other processes")
    return Finding("memory", "ok", f"{gib:.1f} GiB left")


def check_network(there: bool) -> Finding:
    if there:
        return Finding("network", "note", "there is one", advice="a submission has none: set enable_internet to false")
    return Finding("network", "ok", "none, as in a submission")


def check_competition(mounts: Mounts, wanted: str) -> Finding:
    try:
        folder = mounts.competition(wanted)
        tasks = load_tasks(folder / TEST_FILE)
    except ArcKaggleError as error:
        return Finding("competition", "FAILED", str(error))
    n_queries = sum(len(task.test) for task in tasks)
    return Finding("competition", "ok", f"{folder}, {len(tasks)} tasks with {n_queries} test inputs")


def check_models(mounts: Mounts) -> Finding:
    """None is enough for a submission, but for a poor one."""
    there = ", ".join(path.relative_to(mounts.root).as_posix() for path in (*mounts.models, *mounts.adapters))
    if len(mounts.models) == 1:
        return Finding("models", "ok", there)
    if not mounts.models:
        advice = "attach one by Add Input, or let MODEL in the config cell be box"
        return Finding("models", "note", f"none attached{f', but adapters: {there}' if there else ''}", advice=advice)
    return Finding("models", "note", f"{len(mounts.models)}: {there}", advice="let MODEL in the config cell name one")


def check_bundle(mounts: Mounts) -> Finding:
    try:
        return Finding("bundle", "ok", str(mounts.bundle()))
    except MountError as error:
        return Finding("bundle", "note", str(error))


def check_packages(needed: Sequence[str], version_of: Callable[[str], str | None]) -> Finding:
    """Versions against what is needed. Extras are not asked for."""
    asked = [r for r in map(Requirement, needed) if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = {name: version_of(name) for name in ([r.name for r in asked] or TOLD)}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    if not asked:
        return Finding("packages", "note", text, advice="arc_kaggle is not installed, so nothing says which it needs")
    wrong = [str(r) for r in asked if not r.specifier.contains(found[r.name] or "0", prereleases=True)]
    if wrong:
        return Finding("packages", "FAILED", text, ", ".join(wrong), "install the wheel bundle")
    return Finding("packages", "ok", text)


def check_profile(mounts: Mounts, version_of: Callable[[str], str | None]) -> Finding:
    """Versions against those of the bundle that is attached; others than tested are no failure yet."""
    manifest = read_manifest(mounts.bundles[0]) if len(mounts.bundles) == 1 else None
    if manifest is None:
        return Finding("profile", "note", "no one bundle to compare versions with")
    wanted = {**manifest["keeps"], **{wheel["name"]: wheel["version"] for wheel in manifest["wheels"]}}
    found = {name: version_of(name) or "missing" for name in wanted}
    other = [f"{name} {found[name]}, not {number}" for name, number in wanted.items() if found[name] != number]
    name = f"{manifest['profile']}, {len(wanted)} packages"
    if other:
        return Finding(
            "profile", "note", f"{name}, of others {'; '.join(other):.300}", advice="run install.py of the bundle"
        )
    return Finding("profile", "ok", name)


def check_peft(facts: dict[str, Any], probe: Child) -> Finding:
    if "peft" in facts:
        return Finding("adapters", "ok", f"peft {facts['peft']} can attach them")
    advice = "where torchao is too old: pip uninstall -y torchao; else install the wheel bundle"
    return Finding("adapters", "FAILED", f"peft cannot attach any, {probe.last_words}", advice=advice)


def check_answer(child: Child, runs: Sequence[TaskRun]) -> Finding:
    """A task went through the whole of `solve`: loaded, fine-tuned, answered."""
    advice = "run `arc-kaggle solve` on one task and read worker.log in its folder"
    if child.code or not runs:
        return Finding(
            "answer", "FAILED", f"a model that should solve a task did not, {child.last_words}", advice=advice
        )
    seconds = sum(run.tune.seconds + run.infer_seconds for run in runs)
    views = ", ".join(f"{n} {reason}" for run in runs for reason, n in run.reasons.items())
    return Finding("answer", "ok", f"{runs[0].tune.text}, views: {views}, {seconds:.1f} s")
