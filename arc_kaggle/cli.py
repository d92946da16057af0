"""The command line `arc-kaggle`: it finds a command's module, and tyro makes the options of the command's config."""

from __future__ import annotations

import io
import os
import signal
import sys
import typing
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from arc_kaggle import __version__
from arc_kaggle.config.json import nearest
from arc_kaggle.config.saved import SOLVE_ALONE, saved_options
from arc_kaggle.errors import ArcKaggleError, ConfigError
from arc_kaggle.system.collector import collector_paused
from arc_kaggle.system.threads import thread_environment

COMMANDS = {
    "solve": "Solve tasks: submission.json, predictions and a report.",
    "score": "Judge a submission or predictions against solutions, or compare two.",
    "combine": "Merge runs into one: pooled votes, one attempt of each submission, or one after the other.",
    "evaluate": "Judge checkpoints and adapters, in parts that can be resumed.",
    "study": "Answer a question about models by a grid of runs, with intervals.",
    "evaluate-prompts": "Judge models on prompts with completions: texts, numbers, choices, code.",
    "report": "Write one HTML page that shows runs, task by task.",
    "show": "Draw a task, a view, or a prompt with its trained tokens.",
    "fit": "Say which tasks fit a number of tokens, before any training.",
    "symbols": "Find characters that are one token each, and check a set of ten.",
    "preflight": "Check that a model, its prompt format and this machine go together.",
    "synth": "Make up rules as training data, each pair verified.",
    "convert": "Write tasks in another form, reversed, or with one pair held out.",
    "train": "Make a model from training rules.",
    "import-gguf": "Make a model folder of a GGUF file.",
    "convert-weights": "Write the base of a micro-step model as a plain folder.",
    "merge": "Merge a LoRA adapter into its base model.",
    "bundle": "Build, verify and install wheels for a notebook without a network.",
    "doctor": "Say whether a submission would run on this machine.",
}
"""Each is a module of `arc_kaggle.commands` with a function `run` of its config, which prints and gives the exit code.
It is imported when it is called."""
CONFIG, TAKE_SAVED = "--config", ("solve", "preflight", "evaluate")
"""The option that names the config.json of a run, and the commands that take it."""
USAGE = "usage: arc-kaggle COMMAND [OPTIONS]"
FOOTER = (
    "arc-kaggle COMMAND --help lists its options; arc-kaggle --version tells the version\n"
    "solve, preflight and evaluate take --config FILE, the config.json that a run has left"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 bad input, 130 interrupted, or what the command gives."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print("\n".join([USAGE, "", *(f"  {name:<18}{what}" for name, what in COMMANDS.items()), "", FOOTER]))
        return 0 if words else 2
    if words[0] == "--version":
        print(f"arc-kaggle {__version__}")
        return 0
    try:
        return run_command(words[0], words[1:])
    except ArcKaggleError as error:
        print(f"arc-kaggle: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("arc-kaggle: interrupted; what was finished until now is on disk", file=sys.stderr)
        return 130


def run_command(name: str, words: Sequence[str]) -> int:
    """Parse the options of a command and run it. Raises ArcKaggleError; tyro ends the process for options unknown."""
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ConfigError(f"command {name!r}: no such command{nearest(name, COMMANDS)}; expected one of {known}")
    with collector_paused():  # what is imported and parsed here stays
        import tyro  # late, for a command that is misspelt does not need it

        from arc_kaggle.config.command_line import known_defaults

        run = import_module(f"arc_kaggle.commands.{name.replace('-', '_')}").run
        kind = typing.get_type_hints(run, include_extras=True)["config"]
        words = with_saved(name, words)
        config: Any = tyro.cli(kind, args=words, prog=f"arc-kaggle {name}", **known_defaults(kind, words))
    return int(run(config))


def with_saved(name: str, words: Sequence[str]) -> list[str]:
    """The words with the options of `--config FILE`, the config.json that a run has left; options given here win."""
    if name not in TAKE_SAVED or CONFIG not in words:
        return list(words)
    from arc_kaggle.kaggle.machines import as_words

    at = words.index(CONFIG)
    if at + 1 == len(words):
        raise ConfigError(f"option {CONFIG.strip('-')}: found no file behind it, expected the config.json of a run")
    rest = [*words[:at], *words[at + 2 :]]
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in rest if word.startswith("--")}
    saved = {option: value for option, value in saved_options(Path(words[at + 1])).items() if option not in given}
    if name != "solve":
        saved = {option: value for option, value in saved.items() if option not in SOLVE_ALONE}
    if name != "evaluate":
        return [*as_words(saved), *rest]
    recipe, model = saved.pop("recipe", "auto"), saved.pop("model", None)
    first = [str(model)] if model and not (rest and not rest[0].startswith("--")) else []
    recipes = {} if "recipes" in given else {"recipes": ["none", recipe]}
    return [*first, *rest, *as_words({**saved, **recipes})]


def entry() -> None:
    """The console script. Commands that compute load torch in this very process, or in one that it starts."""
    os.environ.update(thread_environment())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a job is an interrupt too: report, then end
    for stream in (sys.stdout, sys.stderr):  # an id, or a sign that the terminal's encoding lacks, ends no command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    entry()
