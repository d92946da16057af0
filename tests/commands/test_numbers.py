"""Every numeric option of every command: whatever number it is given, a run follows or one sentence."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from arc_kaggle.cli import COMMANDS, main
from arc_kaggle.config.options import Range, hints, notes
from arc_kaggle.errors import ConfigError

ODD = ["nan", "inf", "-1", "0", str(10**21)]
MOST_PARSED = 4
"""Options of a command that are given on the command line; all others are set in its config, which is faster."""
REQUIRED = {
    "solve": ["--tasks", "a.json", "--out", "out"],
    "score": ["--submission", "a.json", "--tasks", "a.json"],
    "combine": ["a", "b", "--tasks", "a.json", "--out", "out"],
    "show": ["--tasks", "a.json"],
    "fit": ["--tokenizer", "a"],
    "symbols": ["--tokenizer", "a"],
    "synth": ["--out", "a.jsonl"],
    "train": ["--out", "out"],
}


GIVEN: dict[str, dict[str, Any]] = {
    "SolveConfig": {"tasks": "a", "out": Path("out")},
    "ShowConfig": {"tasks": "a"},
    "FitConfig": {"tokenizer": Path("a")},
    "SymbolsConfig": {"tokenizer": (Path("a"),)},
    "SynthConfig": {"out": Path("a.json")},
    "TrainConfig": {"out": Path("out")},
    "PromptEvaluation": {"models": (Path("a"),), "data": Path("a"), "out": Path("out")},
}
"""What a config needs beside the number."""


class Option(NamedTuple):
    command: str
    name: str
    """Dotted, such as generate.n_views."""
    hint: Any

    @property
    def words(self) -> list[str]:
        return [self.command, *REQUIRED.get(self.command, []), f"--{self.name.replace('_', '-')}"]


def configs_of(command: str) -> list[type]:
    """The config of a command, or those of its subcommands."""
    run = import_module(f"arc_kaggle.commands.{command.replace('-', '_')}").run
    kind = typing.get_type_hints(run)["config"]
    return [part for part in (kind, *typing.get_args(kind)) if is_dataclass(part)]


def numbers_in(command: str, config: type, prefix: str = "") -> Iterator[Option]:
    """All options of a config that take a number, those of nested configs included."""
    for name, hint in hints(config).items():
        kind = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        kinds = {kind, *typing.get_args(kind)}
        plain = {typing.get_args(each)[0] if hasattr(each, "__metadata__") else each for each in kinds}
        if is_dataclass(hint):
            yield from numbers_in(command, typing.cast(type, hint), f"{prefix}{name}.")
        elif plain & {int, float}:
            yield Option(command, prefix + name, hint)


OPTIONS = [each for command in COMMANDS for config in configs_of(command) for each in numbers_in(command, config)]


def test_there_are_many() -> None:
    assert len(OPTIONS) > 150
    assert {"generate.n_views", "workers", "tune.optim.learning_rate", "vllm.cache_gb"} <= {
        each.name for each in OPTIONS
    }


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.command} {option.name}")
def test_every_number_has_a_range_that_ends(option: Option) -> None:
    ranges = [note for note in notes(option.hint) if isinstance(note, Range)]
    assert ranges, f"{option}: give its type a Range, such as Count or Share"
    assert max(each.least for each in ranges) >= 0 and min(each.most for each in ranges) < 2**63


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.command} {option.name}")
def test_an_odd_number_is_taken_or_refused_in_one_sentence(option: Option) -> None:
    *parents, name = option.name.split(".")
    config = next(each for each in configs_of(option.command) if (parents or [name])[0] in hints(each))
    for parent in parents:
        config = hints(config)[parent]
    for value in (nan, inf, -1, 0, 10**21):
        try:
            found = config(**{**GIVEN.get(config.__name__, {}), name: value})
        except ConfigError as error:
            assert str(error).startswith("option ") and "\n" not in str(error), (value, error)
        else:
            assert value == 0 and getattr(found, name) == 0, value


@pytest.mark.parametrize("command", sorted({each.command for each in OPTIONS}))
def test_an_odd_number_on_the_command_line_ends_in_a_run_or_in_one_sentence(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module, ran = import_module(f"arc_kaggle.commands.{command.replace('-', '_')}"), []
    hint = typing.get_type_hints(module.run, include_extras=True)["config"]

    def run(config: Any) -> int:
        ran.append(config)
        return 0

    run.__annotations__["config"] = hint
    monkeypatch.setattr(module, "run", run)
    options = [each for each in OPTIONS if each.command == command]
    for option in options[:: max(1, len(options) // MOST_PARSED)]:
        for value in ODD:
            ran.clear()
            code = exit_code([*option.words, value])
            text = capsys.readouterr().err
            if ran:
                assert (code, value) == (0, "0"), option
            else:
                assert code == 2 and "Traceback" not in text, (option, value, text)
                assert text.startswith("arc-kaggle: option ") == (text.count("\n") == 1), (option, value, text)


def exit_code(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)
