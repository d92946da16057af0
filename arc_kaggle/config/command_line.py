"""A config from the words of a command line: tyro parses them, over the defaults of the recipe that they name."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro

from arc_kaggle.config.model import BOX_FOLDER, ModelOptions
from arc_kaggle.errors import ConfigError

T = TypeVar("T")


def config_of_words(kind: type[T], words: Sequence[str]) -> T:
    """The config of some words; of an option that is given twice the later counts. Raises ConfigError."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            return cast(T, tyro.cli(kind, args=list(words), prog="options", **known_defaults(kind, words)))
    except SystemExit as error:
        said = " ".join(told.getvalue().translate(str.maketrans("", "", "│╭╮╰╯─")).split())
        raise ConfigError(f"options {' '.join(words):.200}: {said:.400}") from error


def known_defaults(kind: Any, words: Sequence[str]) -> dict[str, Any]:
    """The defaults of a config of one model: those of the recipe that is named, or else that of its card."""
    if hasattr(kind, "known_tune"):  # of several models
        return {"default": kind(tune=tyro.cli(kind, args=words, prog="arc-kaggle evaluate").known_tune)}
    if not (isinstance(kind, type) and issubclass(kind, ModelOptions)):
        return {}
    early = argparse.ArgumentParser(prog="arc-kaggle", add_help=False, allow_abbrev=False)
    early.add_argument("--model", type=Path, default=BOX_FOLDER)
    early.add_argument("--adapter", type=lambda word: None if word == "None" else Path(word), default=None)
    early.add_argument("--recipe", default="auto")
    chosen = vars(early.parse_known_args(words)[0])
    required = [option.name for option in fields(kind) if option.default is option.default_factory is MISSING]
    return {"default": kind(**dict.fromkeys(required, tyro.MISSING), **chosen)}
