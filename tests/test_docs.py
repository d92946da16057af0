"""The docs name what is there: links, files, names in files, options, make targets, engines, benchmarks, modules."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest
import tyro
from test_rooms import ROOMS

from arc_kaggle.cli import COMMANDS
from arc_kaggle.config.answer import NEED_SCORES, Selection
from arc_kaggle.config.command_line import known_defaults
from arc_kaggle.config.engines import ENGINES, TUNERS, Feature
from arc_kaggle.text.encoders import ENCODERS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
PLACES = ("kaggle_notebooks", "wheels", "requirements", "arc_kaggle/box")
PAGES = [*GUIDES, ROOT / "CHANGELOG.md", *(ROOT / place / "README.md" for place in PLACES)]
PLACEHOLDERS = r"\b(?:NAME|ROOM|MODULE|PROFILE)\b|(?<=test_)(?:NAME|MODULE)\b"
ON_TOP = "arc_kaggle|tests|benchmarks|docs|kaggle_notebooks|wheels|requirements"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What a link may name behind `#`: headings, as GitHub spells them."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def is_there(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in link]
    assert [link for link in links if not is_there(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = re.findall(rf"(?<![\w/.-])(?:{ON_TOP})/[\w*/.-]*\w(?:/|\b)", re.sub(PLACEHOLDERS, "*", text_of(page)))
    assert [path for path in named if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_name_stands_in_the_file_that_it_is_said_to_be_in(page: Path) -> None:
    said = re.findall(r"`@?(\w+)` in\s+`([\w/]+\.\w+)`", text_of(page))
    assert [(name, path) for name, path in said if not re.search(rf"\b{name}\b", text_of(ROOT / path))] == []


def command_lines(text: str) -> list[str]:
    """Calls of `arc-kaggle` with options, in blocks of code and in running text."""
    joined = text.replace("\\\n", " ")
    found = re.findall(r"^(arc-kaggle [^#\n]+)", joined, re.MULTILINE) + re.findall(r"`(arc-kaggle [^`]+)`", joined)
    return [line for line in found if " --" in line and "--help" not in line]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_is_understood(page: Path) -> None:
    for line in command_lines(text_of(page)):
        name, *words = shlex.split(line)[1:]
        assert name in COMMANDS, line
        run = import_module(f"arc_kaggle.commands.{name.replace('-', '_')}").run
        kind = get_type_hints(run, include_extras=True)["config"]
        tyro.cli(kind, args=words, prog=line, **known_defaults(kind, words))  # ends the test for what it cannot parse


@cache
def options_there_are() -> set[str]:
    """Last parts of all options: fields of dataclasses in the package, and what benchmarks take."""
    nodes = [node for path in (ROOT / "arc_kaggle").rglob("*.py") for node in ast.walk(ast.parse(text_of(path)))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    fields = [line.target for each in classes for line in each.body if isinstance(line, ast.AnnAssign)]
    taken = [re.findall(r'"--([\w-]+)"', text_of(path)) for path in (ROOT / "benchmarks").glob("*.py")]
    names = {field.id.replace("_", "-") for field in fields if isinstance(field, ast.Name)}
    return names | {"help", "*"} | {name for found in taken for name in found}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_option_that_is_named_is_there(page: Path) -> None:
    named = re.findall(r"(?<=--)[a-z][\w.*-]*\b\*?", text_of(page))
    assert sorted({option for option in named if option.split(".")[-1] not in options_there_are()}) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_make_target_that_is_named_is_there(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE)
    assert [name for name in re.findall(r"`make ([a-z-]+)", text_of(page)) if name not in targets] == []


def test_the_engines_can_do_what_their_page_says() -> None:
    features = get_args(Feature)
    rows = re.findall(
        r"^\| (?:engine|tuner) `(\w+)`[^|]*\|(.*)\|$", text_of(ROOT / "docs" / "engines.md"), re.MULTILINE
    )
    assert f"| | {' | '.join(features)} |" in text_of(ROOT / "docs" / "engines.md")
    told = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    engines = {name: ["yes" if each in can else "no" for each in features] for name, can in ENGINES.items()}
    tuners = {name: ["yes" if each in can else "no" for each in features[4:]] for name, can in TUNERS.items()}
    assert told == {**engines, **{name: [""] * 4 + cells for name, cells in tuners.items()}}


def test_every_rule_of_selection_and_every_encoder_is_told() -> None:
    solve, encoders = text_of(ROOT / "docs" / "solve.md"), text_of(ROOT / "docs" / "encoders.md")
    assert [name for name in get_args(Selection) if f"| `{name}` |" not in solve] == []
    assert [name for name in ENCODERS if not re.search(rf"`{name}\b", encoders)] == []


def test_every_rule_of_selection_says_what_it_needs() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \|(.*)\|$", text_of(ROOT / "docs" / "solve.md"), re.MULTILINE)
    needs = {rule: set(re.findall(r"--rescore\.[\w-]+", words)) for rule, words in rows if rule in get_args(Selection)}
    more = {"verify": {"--rescore.verify"}, "pairwise": {"--rescore.pairs"}}
    scored = {rule: {"--rescore.n-views", *more.get(rule, ())} for rule in NEED_SCORES}
    assert needs == {rule: scored.get(rule, set()) for rule in get_args(Selection)}


def test_every_benchmark_is_told() -> None:
    scripts = [path.name for path in sorted((ROOT / "benchmarks").glob("*.py"))]
    page = text_of(ROOT / "docs" / "benchmarks.md")
    assert [name for name in scripts if f"`{name}`" not in page] == []
    results = {path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert [name for name in re.findall(r"`(\w+\.json)`", page) if name not in results] == []


def test_every_option_of_the_submission_notebook_is_told() -> None:
    notebook = json.loads(text_of(ROOT / "kaggle_notebooks" / "submission" / "submission.ipynb"))
    config = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    names = re.findall(r"^([A-Z_]+) =", "".join(config["source"]), re.MULTILINE)
    page = text_of(ROOT / "kaggle_notebooks" / "README.md")
    assert len(names) >= 7 and re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE) == names


def file_map() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_map_is_that_of_the_modules_as_they_are() -> None:
    script = file_map()
    page = text_of(script.PAGE)
    assert page == script.page_with_map(page, ROOMS), "write it anew: python docs/architecture.py"
    modules = [path.relative_to(ROOT / "arc_kaggle").as_posix() for path in (ROOT / "arc_kaggle").rglob("*.py")]
    assert [name for name in modules if not name.endswith("/__init__.py") and f"| `{name}` |" not in page] == []
