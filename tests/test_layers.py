"""The order of the modules is the flow of the data: a module imports only from above, and torch stays in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "arc_kaggle"

FLOW = """
    errors budget durable memory gpus ahead
    grid task dataset augmentation leak encoder prompt presets tokens tokenizer_file symbols fit card verify recipe
    rules rules.base rules.scene rules.things rules.symmetry rules.tiling rules.moving rules.patterns rules.cropping
    rules.colours rules.choosing rules.selecting rules.legends rules.lines rules.framing rules.stamps rules.filling
    rules.painting rules.counting rules.panels rules.lattices rules.catalogue rules.steps rules.sampling
    verifiers verifiers.cells verifiers.symmetry verifiers.tiling verifiers.moving verifiers.patterns verifiers.cropping
    verifiers.colours verifiers.selecting verifiers.legends verifiers.lines verifiers.framing verifiers.stamps
    verifiers.filling verifiers.painting verifiers.counting verifiers.panels verifiers.catalogue synth
    training training.config training.remake training.mixture training.examples training.packing training.clock
    training.log
    planning planning.jobs planning.costs planning.gain planning.backlog planning.options planning.queue
    planning.waiting planning.record planning.planner
    candidate vote fallback submission metrics report fit_report show
    evaluation evaluation.paired evaluation.columns evaluation.comparison evaluation.curves evaluation.report
    engines engines.base engines.hf_config engines.drafts engines.tree engines.fake
    engines.capabilities
    four_bit model coordinates vocabulary
    team attention optim training.average training.checkpoint tuned lora
    engines.capacity engines.cache engines.forward engines.policy engines.search engines.scoring engines.hf
    engines.vllm.asks engines.vllm.jobs engines.vllm.process engines.vllm.call engines.vllm.forcing engines.vllm.model
    engines.vllm.adapters engines.vllm.engine engines.vllm tune unsloth_tuner
    generate infer rescore
    training.validation
    sizes placement config choice solve serving adapters stages worker
    engines.vllm.child workers workers.base workers.inprocess workers.child workers.remote workers.start
    run_folder journal run_plan pool watch result dispatch
    stopping score combine evaluation.model_folders evaluation.merge evaluation.parts evaluate gallery sheet rulebook
    lengths footprint rivals preflight training.trainee training.loop train
    bundle bundle.installer bundle.profile bundle.tools bundle.lock bundle.manifest bundle.verify bundle.build
    bundle.weights bundle.command
    kaggle.mounts kaggle.machines kaggle.process kaggle.rehearsal kaggle.pictures kaggle.notebook kaggle
    kaggle.findings kaggle.probe kaggle.probes kaggle.checks doctor
    arc_kaggle cli
"""
"""Every module; `arc_kaggle` is the package itself, with its public names. A new one takes its place here first."""

ORDER = FLOW.split()

WITH_TORCH = {
    "model",
    "coordinates",
    "vocabulary",
    "team",
    "attention",
    "optim",
    "training.average",
    "training.checkpoint",
    "training.validation",
    "tuned",
    "lora",
    "engines.capacity",
    "engines.cache",
    "engines.forward",
    "engines.policy",
    "engines.search",
    "engines.scoring",
    "engines.hf",
    "engines.vllm.forcing",
    "engines.vllm.model",
    "tune",
    "serving",
    "unsloth_tuner",
    "footprint",
    "rivals",
    "preflight",
    "training.trainee",
    "training.loop",
    "train",
}
"""The modules whose import brings torch. All others do without, the supervisor's side among them."""

FOLDERS = ("engines", "rules", "verifiers", "evaluation", "training", "kaggle", "planning", "bundle", "workers")
PACKAGES = {"arc_kaggle", "arc_kaggle.engines.vllm", *(f"arc_kaggle.{name}" for name in FOLDERS)}

HEAVY = {"torch", "transformers", "peft", "safetensors", "accelerate", "bitsandbytes", "vllm", "unsloth"}


class Import(NamedTuple):
    """One import: of which module, in which line, and whether it happens as soon as the module is imported."""

    name: str
    line: int
    at_once: bool


def module_path(module: str) -> Path:
    path = PACKAGE if module == "arc_kaggle" else PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(find_imports(module_path(module).read_text(encoding="utf-8")))


def find_imports(code: str) -> Iterator[Import]:
    """All imports of a module: also those in functions and, not at once, those for type checkers alone."""
    tree = ast.parse(code)
    later = {id(inner) for node in ast.walk(tree) if is_later(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        for name in imported_names(node):
            yield Import(name, getattr(node, "lineno", 0), id(node) not in later)


def is_later(node: ast.AST) -> bool:
    """Whether what is inside does not run upon import."""
    is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return is_typing or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def imported_names(node: ast.AST) -> list[str]:
    """Modules that a statement imports: those of the package by their short names, others by their first."""
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        names = [node.module or ""]
        if node.module in PACKAGES:  # it may be a module, or a name of the package
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if short_name(name) in ORDER else names[0] for name in below]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        return []
    return [short_name(name) for name in names]


def short_name(name: str) -> str:
    package, _, rest = name.partition(".")
    return (rest or package) if package == "arc_kaggle" else package


def brings(module: str, seen: set[str]) -> Iterator[str]:
    """Every package from outside that comes with importing a module."""
    seen.add(module)
    for found in imports(module):
        if found.at_once and found.name not in ORDER:
            yield found.name
        elif found.at_once and found.name not in seen:
            yield from brings(found.name, seen)


def test_every_module_has_its_place() -> None:
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = [".".join(part for part in path.parts if part != "__init__") for path in paths]
    assert len(set(ORDER)) == len(ORDER)
    assert {short_name(name) for name in names} == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_above(module: str) -> None:
    above = ORDER[: ORDER.index(module)]
    below = [f"line {found.line}: {found.name}" for found in imports(module) if found.name in ORDER]
    assert [line for line in below if line.partition(": ")[2] not in above] == []


def test_torch_comes_with_the_model_and_with_nothing_else() -> None:
    assert {module for module in ORDER if HEAVY & set(brings(module, set()))} == WITH_TORCH


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch.nn as nn", [("torch", True)]),
        ("from arc_kaggle.grid import Grid", [("grid", True)]),
        ("from arc_kaggle import cli, SolveConfig", [("cli", True), ("arc_kaggle", True)]),
        ("from arc_kaggle.engines import hf", [("engines.hf", True)]),
        ("import arc_kaggle.engines.hf, arc_kaggle", [("engines.hf", True), ("arc_kaggle", True)]),
        ("def f():\n from torch import nn", [("torch", False)]),
        ("if TYPE_CHECKING:\n import arc_kaggle.tune", [("tune", False)]),
        ("try:\n import torch\nexcept ImportError: pass", [("torch", True)]),
        ("class A:\n import torch", [("torch", True)]),
    ],
)
def test_imports_are_found_wherever_they_are(code: str, found: list[tuple[str, bool]]) -> None:
    assert [(each.name, each.at_once) for each in find_imports(code)] == found
