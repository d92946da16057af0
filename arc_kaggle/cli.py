"""The command line `arc-kaggle`: every command is a config dataclass and a function of it; tyro makes the options."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from arc_kaggle.errors import ArcKaggleError, ConfigError

if TYPE_CHECKING:
    from arc_kaggle.config.solve import SolveConfig

T = TypeVar("T")
Words = list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    try:
        if words[0] not in COMMANDS:
            raise ConfigError(f"command {words[0]!r}: no such command, expected one of {', '.join(COMMANDS)}")
        COMMANDS[words[0]](words[1:])
    except ArcKaggleError as error:
        print(f"arc-kaggle: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("arc-kaggle: interrupted; what was finished until now is on disk", file=sys.stderr)
        return 130
    return 0


def _overview() -> str:
    lines = [f"  {name:<12}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: arc-kaggle COMMAND [OPTIONS]", "", *lines, "", "arc-kaggle COMMAND --help lists its options"]
    )


def _parse(config: type[T], words: Words, command: str, default: T | None = None) -> T:
    known: Any = {} if default is None else {"default": default}
    parsed: T = tyro.cli(config, args=words, prog=f"arc-kaggle {command}", **known)
    return parsed


def _solve(words: Words) -> None:
    """Solve tasks: submission.json, predictions and a report."""
    from arc_kaggle.config.solve import SolveConfig
    from arc_kaggle.run.solve import solve

    config = _parse(SolveConfig, words, "solve", _solve_defaults(words))
    result = solve(config)
    print(result.text)
    print(
        f"\n{config.out / 'submission.json'} holds two attempts for {len(result.reports)} tasks, {result.seconds:.0f} s"
    )


def _solve_defaults(words: Words) -> SolveConfig:
    """Defaults of `solve` under the recipe that --recipe, or the card of --model, asks for."""
    from arc_kaggle.config.solve import SolveConfig

    return replace(SolveConfig(tasks="", out=Path(), **_early(words)), tasks=tyro.MISSING, out=tyro.MISSING)


def _early(words: Words) -> dict[str, Any]:
    """Model and recipe, on which other defaults depend."""
    from arc_kaggle.config.model import BOX_FOLDER

    early = argparse.ArgumentParser(prog="arc-kaggle", add_help=False, allow_abbrev=False)
    early.add_argument("--model", type=Path, default=BOX_FOLDER)
    early.add_argument("--recipe", default="auto")
    return vars(early.parse_known_args(words)[0])


def _score(words: Words) -> None:
    """Judge a submission or predictions against solutions."""
    from arc_kaggle.commands.score import ScoreConfig, score, table_lines
    from arc_kaggle.run.report import score_lines

    scores = score(_parse(ScoreConfig, words, "score"))
    print(score_lines(scores))
    print(table_lines(scores), end="")
    print(f"{scores['n_tasks']} tasks")


def _show(words: Words) -> None:
    """Draw a task, a view, or a prompt with its trained tokens."""
    from arc_kaggle.commands.show import ShowConfig, show
    from arc_kaggle.drawing import print_text

    for text in show(_parse(ShowConfig, words, "show"), shutil.get_terminal_size().columns):
        print_text(text)


def _fit(words: Words) -> None:
    """Say which tasks fit a number of tokens, before any training."""
    from arc_kaggle.commands.fit import FitConfig, fit

    print(fit(_parse(FitConfig, words, "fit")).text)


def _symbols(words: Words) -> None:
    """Find single-token symbols, and check a set of ten."""
    from arc_kaggle.commands.symbols import SymbolsConfig, symbols

    print(symbols(_parse(SymbolsConfig, words, "symbols")).text)


def _combine(words: Words) -> None:
    """Merge runs into one: pooled votes, or one attempt of each submission."""
    from arc_kaggle.commands.combine import CombineConfig, combine

    print(combine(_parse(CombineConfig, words, "combine")).text)


def _evaluate(words: Words) -> None:
    """Judge checkpoints and adapters, in parts that can be resumed."""
    from arc_kaggle.commands.evaluate import EvaluateConfig, compare, evaluate
    from arc_kaggle.evaluation.report import evaluation_text

    config = _parse(EvaluateConfig, words, "evaluate")
    if config.compare:
        print(compare(config.compare))
    else:
        print(evaluation_text(evaluate(config, say=partial(print, flush=True))))


def _preflight(words: Words) -> None:
    """Check that a model, its prompt and this machine go together."""
    from arc_kaggle.commands.preflight import PreflightConfig, preflight

    report = preflight(_parse(PreflightConfig, words, "preflight", PreflightConfig(**_early(words))))
    print(report.text)
    report.require()


def _doctor(words: Words) -> None:
    """Say whether a submission would run on this machine."""
    from arc_kaggle.commands.doctor import DoctorConfig, doctor

    config = _parse(DoctorConfig, words, "doctor")
    diagnosis = doctor(config)
    print(diagnosis.json if config.json else diagnosis.text)
    diagnosis.require()


def _synth(words: Words) -> None:
    """Make up rules as training data, each pair verified."""
    from arc_kaggle.commands.synth import SynthConfig, synth

    print(synth(_parse(SynthConfig, words, "synth")).text)


def _train(words: Words) -> None:
    """Make a model from training rules."""
    from arc_kaggle.commands.train import train
    from arc_kaggle.config.train import TrainConfig

    config = _parse(TrainConfig, words, "train")
    facts = train(config)
    print(f"{config.out}: {facts['tokens']} tokens, {facts['hours']} h, loss {facts['loss']:.3f}")


def _import_gguf(words: Words) -> None:
    """Make a model folder of a GGUF file."""
    from arc_kaggle.commands.import_gguf import ImportGgufConfig, import_gguf

    print(import_gguf(_parse(ImportGgufConfig, words, "import-gguf")))


def _merge(words: Words) -> None:
    """Merge a LoRA adapter into its base."""
    from arc_kaggle.commands.merge import MergeConfig, merge

    print(merge(_parse(MergeConfig, words, "merge")))


def _bundle(words: Words) -> None:
    """Build, verify and install wheels for a notebook without a network."""
    from arc_kaggle.commands.bundle import BundleCommand, run_bundle

    command: Any = BundleCommand
    run_bundle(_parse(command, words, "bundle"), say=partial(print, flush=True))


def entry() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a job is an interrupt too: report, then end
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    sys.exit(code)


COMMANDS: dict[str, Callable[[Words], None]] = {
    "solve": _solve,
    "score": _score,
    "combine": _combine,
    "evaluate": _evaluate,
    "show": _show,
    "fit": _fit,
    "symbols": _symbols,
    "preflight": _preflight,
    "synth": _synth,
    "train": _train,
    "import-gguf": _import_gguf,
    "merge": _merge,
    "bundle": _bundle,
    "doctor": _doctor,
}

if __name__ == "__main__":
    entry()
