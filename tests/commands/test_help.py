"""The help of every command: plain words for a newcomer, and nothing of how the program is made."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from itertools import pairwise

import pytest

from arc_kaggle.cli import COMMANDS, main
from arc_kaggle.config.tune import RECIPES

SUBCOMMANDS = {"bundle": ("build", "verify", "install", "model", "lock")}
PAGES = [[name, *([sub] if sub else [])] for name in COMMANDS for sub in SUBCOMMANDS.get(name, ("",))]
NOT_SAID = (
    *(
        r"# ?type",
        r"type: ",
        r"noqa",
        r"--no-no-",
        r"\b_[a-z]\w+",
        r"\bdict\[",
        r"dataclass",
        r"<factory>",
        r"\bMISSING\b",
    ),
    *(r"default: GenerateConfig", r"in_process", r"\bself\b(?!-py)"),
)
"""What no help text holds: comments for a type checker, private names, types of Python."""


def page(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return re.sub(r"[│╭╮╰╯─\s]+", " ", re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out))


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_help_says_nothing_of_how_the_program_is_made(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = page(words, capsys)
    assert {pattern: found[0] for pattern in NOT_SAID if (found := re.search(pattern, text))} == {}


def undescribed(config: type) -> Iterator[str]:
    """Options of a config class, nested and inherited ones too, without a docstring that ends as a sentence does."""
    for cls in config.__mro__[:-1]:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(node, ast.ClassDef)
        for option, after in pairwise(node.body):
            if not isinstance(option, ast.AnnAssign):
                continue
            name = ast.unparse(option.target)
            if is_dataclass(nested := typing.get_type_hints(cls)[name]):
                yield from undescribed(typing.cast(type, nested))
            elif not (isinstance(after, ast.Expr) and str(ast.literal_eval(after.value)).endswith(".")):
                yield f"{cls.__name__}.{name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_by_a_sentence(command: str) -> None:
    run = import_module(f"arc_kaggle.commands.{command.replace('-', '_')}").run
    kind = typing.get_type_hints(run)["config"]
    configs = [part for part in (kind, *typing.get_args(kind)) if is_dataclass(part)]
    assert configs and [name for config in configs for name in undescribed(typing.cast(type, config))] == []


@pytest.mark.parametrize("recipe", ["box", "lora", "arc24", "none"])
@pytest.mark.parametrize("command", ["solve", "preflight"])
def test_the_defaults_of_fine_tuning_are_those_that_the_recipe_sets(
    command: str, recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")  # one column of options
    text = page([command, "--recipe", recipe], capsys)
    steps = {"box": RECIPES["box"].steps, "lora": 64, "arc24": 320, "none": 64}[recipe]
    assert f"--tune.steps INT Optimizer steps on one task. (default: {steps})" in text
    assert "those that --recipe sets for --model" in text
    assert text.count("The defaults shown here are those that --recipe sets") == 3
    assert "tune None" not in text and "default: TuneConfig" not in text
