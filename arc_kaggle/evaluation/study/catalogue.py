"""The studies, as data: the rows of each are bits of a command line of `solve`, or of `train`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

from arc_kaggle.errors import ConfigError

Words = Mapping[str, str]
"""By the name of a row, the words of a command line that make it."""
ReadingName = Literal["runs", "views", "ways", "sizes", "kinds"]
"""What the rows of a table are: runs, or the same run with fewer of its views, under several ways to select, by the
size of the answer, or by the kind of augmentation."""
Judged = Literal["last", "last and best", "all"]
"""Which models of a training are rows: the last one; beside it the one with the lowest validation loss; or every
checkpoint."""


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and the grid of runs that answers it."""

    question: str
    rows: Words = field(default_factory=lambda: {"": ""})
    """Options of `solve`, by row. The first row is what the others are compared with."""
    fixed: str = ""
    """Options of `solve` of all rows, before those of the row."""
    models: Words = field(default_factory=dict)
    """Options of `train`, by model, where the study trains its models itself; {small} is a folder with a new model."""
    training: str = ""
    """Options of `train` of all models."""
    reads: ReadingName = "runs"
    measure: str = "vote_2"
    """The score by which rows are compared."""
    tunes_once: bool = False
    """Whether each puzzle is tuned once, and all rows answer with these weights."""
    judged: Judged = "last"
    against_last: bool = False
    """Whether rows are compared with the last one, and not with the first."""
    is_whole: bool = False
    """Whether a row needs all its puzzles in one run."""
    longest: int = 1000
    """Longest puzzle where --longest is not given, in cells and row ends: one that the models were trained for."""


HELD_TOGETHER = r"""'[^']*'|"[^"]*"|\((?:'[^']*'|"[^"]*"|[^()'"])*\)"""
"""What stands in quotes or brackets, such as an encoder's symbols, is one piece with what is around it."""


def grid(*over: str) -> dict[str, str]:
    """Every combination of options with values, each as NAME=VALUE,VALUE: words by a short name. Raises ConfigError."""
    axes = []
    for text in over:
        name, _, listed = text.partition("=")
        values = re.findall(rf"((?:{HELD_TOGETHER}|[^,])*),", f"{listed},")
        if not name or "" in values:
            raise ConfigError(f"option over: found {text!r}, expected NAME=VALUE,VALUE such as tune.steps=25,50")
        axes.append([(f"{name.rpartition('.')[2]}={value}", option_words(name, value)) for value in values])
    rows = [zip(*combination, strict=True) for combination in product(*axes)]
    return {" ".join(names): shlex.join(word for each in words for word in each) for names, words in rows}


def option_words(name: str, value: str) -> list[str]:
    """An option as a command line has it; true and false become the flag and its opposite, and spaces part words."""
    flag = name.replace("_", "-")
    if value not in ("true", "false"):
        return [f"--{flag}", *re.findall(rf"(?:{HELD_TOGETHER}|\S)+", value)]
    head, dot, last = flag.rpartition(".")
    return [f"--{flag}" if value == "true" else f"--{head}{dot}no-{last}"]


def given_words(given: Sequence[str], option: str) -> list[str]:
    """Options given to an option as NAME=VALUE, as a command line has them. Raises ConfigError."""
    words = []
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            example = {"set": "generate.n-views=8", "train": "steps=400"}[option]
            raise ConfigError(f"option {option}: found {text!r}, expected NAME=VALUE such as {example}")
        words += option_words(name, value)
    return words


SMALL_GRID_LM = (
    "--architecture grid --hidden-size 96 --n-layers 4 --tokens-per-batch 4096 --max-tokens 768 --drop-leaks"
)
GRID_SYMBOLS = 600
"""Longest puzzle of a GridLM of the studies, which is trained on prompts of up to 768 tokens with their answers."""
LM_SYMBOLS = 400
SMALL_LM = (
    f"--start {{small}} --examples-per-batch 16 --max-symbols {LM_SYMBOLS} --max-tokens 2560 --first-max-tokens 2560 "
    "--bucket 64 --drop-leaks"
)
"""The same grids in the same steps, however they are written: all fit 2,560 tokens in every encoding here."""
SYMBOLS = "replace('ñò÷ûąćďęĚĞ')+minimal"

STUDIES = {
    "sweep": Study("What does any option do? Its values are named by --over."),
    "predictions": Study(
        "How many predictions does a puzzle need, from 1 to 512?",
        fixed="--generate.n-views 512",
        reads="views",
    ),
    "temperature": Study(
        "Does sampling find answers that greedy decoding does not?",
        rows={
            f"temperature {t:g}": f"--generate.decoding.temperature {t:g}" for t in (0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
        },
        fixed="--generate.n-views 16",
        measure="pass_n",
        tunes_once=True,
    ),
    "beam": Study(
        "What does a beam of some width find, and what does it cost?",
        rows={"greedy": "", **{f"{n} beams": f"--generate.decoding.beams {n}" for n in (2, 4, 8)}},
        fixed="--generate.n-views 8",
        tunes_once=True,
    ),
    "best-of": Study(
        "Is the likeliest of several samples better than the greedy answer?",
        rows={
            "greedy": "",
            **{
                f"best of {n}": f"--generate.decoding.temperature 0.7 --generate.decoding.best-of {n}"
                for n in (2, 4, 8)
            },
        },
        fixed="--generate.n-views 8",
        tunes_once=True,
    ),
    "selection": Study(
        "By which rule should the two attempts be chosen among the same candidates?",
        fixed="--generate.n-views 16 --rescore.n-views 8 --rescore.verify --tune.verify-share 0.2 "
        "--rescore.pairs 4 --tune.pair-share 0.25",
        reads="ways",
    ),
    "output-size": Study(
        "How large may an answer be?",
        fixed="--generate.n-views 8",
        reads="sizes",
        measure="accuracy",
    ),
    "augmentations": Study(
        "Under which kinds of views is a model right?",
        fixed="--generate.n-views 32",
        reads="kinds",
        measure="accuracy",
    ),
    "ttft": Study(
        "How much test-time fine-tuning of all weights, and at which learning rate?",
        rows={"none": "--recipe none", **grid("tune.steps=25,50,100", "tune.optim.learning-rate=1e-3,3e-3")},
        fixed="--generate.n-views 8",
    ),
    "ttft-lora": Study(
        "How much test-time fine-tuning of an adapter, at which learning rate, and of which rank?",
        rows={
            "none": "--recipe none",
            **{
                name: f"--recipe lora {words}"
                for name, words in grid(
                    "tune.steps=25,100", "tune.optim.learning-rate=3e-4,3e-3", "tune.lora.rank=8,32,128"
                ).items()
            },
        },
        fixed="--generate.n-views 8",
    ),
    "joint": Study(
        "Should a model be tuned on all puzzles together, on each alone, or first together and then alone?",
        rows={
            "none": "--recipe none",
            "joint": "--joint-minutes 10 --tune.steps 0",
            "single": "",
            "joint + single": "--joint-minutes 10",
        },
        fixed="--generate.n-views 8",
        is_whole=True,
    ),
    "continue-adapter": Study(
        "Should test-time fine-tuning go on from a pretrained adapter, or begin a fresh one on the base?",
        rows={"continued": "", "fresh": "--adapter None", "adapter alone": "--recipe none"},
        fixed="--generate.n-views 8",
    ),
    "system-prompt": Study(
        "Does a system prompt help a model that is trained with it?",
        models={"with a system prompt": "--prompt arc24", "without": "--prompt arc24-no-system"},
        training=f"{SMALL_LM} --data synth:0.4 --steps 600 --save-every 200",
        fixed="--recipe none --generate.n-views 4",
        measure="correct_pixels",
        longest=LM_SYMBOLS,
    ),
    "encoders": Study(
        "How should a grid be written: with row numbers, with its shape, with symbols in place of digits?",
        models={
            name: f'--prompt plain --encoder "{spec}"'
            for name, spec in {
                "plain": "minimal",
                "rows": "rows+minimal",
                "shape": "shape+minimal",
                "shape + rows": "shape+rows+minimal",
                "symbols": SYMBOLS,
                "symbols + rows": f"rows+{SYMBOLS}",
                "symbols + shape": f"shape+{SYMBOLS}",
                "symbols + shape + rows": f"shape+rows+{SYMBOLS}",
            }.items()
        },
        training=f"{SMALL_LM} --data synth:0.4 --steps 600 --save-every 200",
        fixed="--recipe none --generate.n-views 4",
        measure="correct_pixels",
        longest=LM_SYMBOLS,
    ),
    "loss": Study(
        "Should a model be trained on the answers alone, or on everything, and is its best epoch its last?",
        models={name: f"--loss {name}" for name in ("last_output", "outputs_but_first", "outputs", "everything")},
        training=f"{SMALL_GRID_LM} --data arc1:training synth:0.6=2 --steps 800 --save-every 100 --keep-best",
        judged="last and best",
        fixed="--generate.n-views 4 --tune.steps 25",
        measure="correct_pixels",
        longest=GRID_SYMBOLS,
    ),
    "dropping-pairs": Study(
        "Should training show fewer train pairs than a rule has?",
        models={f"at most {n} pairs": f"--max-pairs {n}" for n in (6, 4, 3)},
        training=f"{SMALL_GRID_LM} --data arc1:training synth:0.6=2 --steps 800 --save-every 200",
        fixed="--generate.n-views 4 --tune.steps 25",
        measure="correct_pixels",
        longest=GRID_SYMBOLS,
    ),
    "data-mix": Study(
        "Which data should a model be trained on?",
        models={
            "arc1:training": "--data arc1:training",
            "synthetic": "--data synth:0.6",
            "both": "--data arc1:training synth:0.6=2",
            "both, remade": "--data arc1:training synth:0.6=2 --remake-share 0.3",
        },
        training=f"{SMALL_GRID_LM} --steps 800 --save-every 200",
        fixed="--generate.n-views 4 --tune.steps 25",
        measure="correct_pixels",
        longest=GRID_SYMBOLS,
    ),
    "checkpoints": Study(
        "Does the validation loss know which checkpoint of a training solves most puzzles?",
        models={"training": ""},
        training=f"{SMALL_GRID_LM} --data arc1:training synth:0.6=2 --steps 1000 --save-every 200 "
        "--keep-checkpoints 50 --keep-best",
        judged="all",
        against_last=True,
        fixed="--generate.n-views 4 --tune.steps 25",
        longest=GRID_SYMBOLS,
    ),
    "tokens": Study("Where in an answer is a model unsure, and what does a sliding window change?"),
}


def find_study(name: str, over: Sequence[str] = ()) -> Study:
    """The study of a name, with rows of `over` in place of its own. Raises ConfigError."""
    if name not in STUDIES:
        raise ConfigError(f"study {name!r}: no such study, expected one of {', '.join(STUDIES)}")
    study = STUDIES[name]
    if name == "sweep" and not over:
        raise ConfigError("study sweep: found no --over, expected one or more such as --over tune.steps=25,50")
    return replace(study, rows=grid(*over)) if over else study
