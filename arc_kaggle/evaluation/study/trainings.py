"""The models that a study trains itself: one for every seed, each by `train`, which goes on after a kill."""

from __future__ import annotations

import csv
import io
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arc_kaggle.config.command_line import config_of_words
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.evaluation.model_folders import ModelFolder, find_model_folders
from arc_kaggle.evaluation.study.catalogue import Study, given_words
from arc_kaggle.evaluation.study.load import Load
from arc_kaggle.evaluation.study.table import StudyRow
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import save_model
from arc_kaggle.models.new_model import new_text_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import write_atomically
from arc_kaggle.system.paths import safe_name
from arc_kaggle.training.checkpoint import checkpoint_folders
from arc_kaggle.training.log import read_log
from arc_kaggle.training.session import train

Models = Mapping[str, ModelFolder]
"""By title, those of one seed."""
PROBED_STEPS = 20
SMALL_HIDDEN, SMALL_LAYERS = 96, 4
"""Of the new model that reads any prompt."""
CURVE = ("validation_loss", "validation_solved")
MOST_TRAINING = 2 / 3
"""Largest share of the time that is left which the training of one seed may take: its models are to be judged, too."""


def training_config(study: Study, config: StudyConfig, name: str, seed: int) -> TrainConfig:
    """The options of `train` for one model and seed. Raises ConfigError."""
    folder = config.folder / "models" / f"seed-{seed}" / safe_name(name)
    shared = shlex.split(study.training.format(small=config.folder / "models" / f"small-{seed}"))
    words = ["--out", str(folder), "--seed", str(seed), *shared, *given_words(config.train, "train")]
    return config_of_words(TrainConfig, [*words, *shlex.split(study.models[name])])


def train_models(
    study: Study, config: StudyConfig, seed: int, until: Deadline, say: Callable[[str], None]
) -> Models | None:
    """Train what is not trained yet of one seed; None where the time left is not enough for all models of it.

    Each model is first trained for some steps, to tell the hours. Raises ArcKaggleError subclasses.
    """
    configs = {name: training_config(study, config, name, seed) for name in study.models}
    if "{small}" in study.training:
        write_small_model(config.folder / "models" / f"small-{seed}", seed)
    load = Load()
    left = {name: seconds_left(each, config) for name, each in configs.items() if not is_trained(each)}
    total = sum(left.values())
    say(f"{len(configs)} models of seed {seed}: about {total / 3600:.2f} h of training to go{load}")
    if config.plan and left:
        return None
    if total > MOST_TRAINING * until.seconds_left:
        say(
            f"seed {seed}: {total:.0f} s of training expected, {until.seconds_left:.0f} s left, of which two thirds "
            "may be training: it ends here; give more --hours, or fewer steps by --train steps=N"
        )
        return None
    for name in left:
        started = time.monotonic()
        train(configs[name])
        say(f"model {name}, seed {seed}: {configs[name].steps} steps, {time.monotonic() - started:.0f} s")
    return {title: model for name, each in configs.items() for title, model in judged_models(study, name, each.out)}


def judged_models(study: Study, name: str, out: Path) -> Iterator[tuple[str, ModelFolder]]:
    """The models of a training that are rows, with their titles. Raises ModelError."""
    by_step = {model.step or 0: model for model in find_model_folders((out,))}
    last = by_step[max(by_step)]
    if study.judged == "last":
        yield name, last
    elif study.judged == "last and best":
        yield f"{name}, last", last
        yield f"{name}, best", find_model_folders((out / "best",))[0]
    else:
        yield from ((f"{name}, step {step}", by_step[step]) for step in sorted(by_step))


def seconds_left(config: TrainConfig, study: StudyConfig) -> float:
    """Seconds that the steps of a training should still take, by those that its probe took."""
    done = [int(folder.name.partition("-")[2]) for folder in checkpoint_folders(config.out / "checkpoints")]
    seconds = probe(config, probe_folder(study, config.out.name))
    return seconds * (1 - max(done, default=0) / config.steps)


def probe_folder(study: StudyConfig, name: str) -> Path:
    """Where the first steps of a training are tried, by the name of its folder."""
    return study.folder / "probe" / "models" / name


def probed_model(study: StudyConfig, name: str) -> ModelFolder:
    """The model of these first steps, which answers as slowly as the one that is to come. Raises ModelError."""
    return find_model_folders((probe_folder(study, safe_name(name)),))[-1]


def is_trained(config: TrainConfig) -> bool:
    """Whether all steps of a training are done."""
    card = read_card(config.out) if config.out.is_dir() else None
    return card is not None and card.facts.get("steps") == config.steps


def probe(config: TrainConfig, out: Path) -> float:
    """Seconds that the steps of a training should take, by some of them; loading, validation and saving come on top."""
    path = out / "seconds.txt"
    if path.is_file():
        return float(path.read_text())
    short = replace(config, out=out, steps=PROBED_STEPS, validation_puzzles=0, save_every=PROBED_STEPS)
    train(short)
    rows = [row for row in read_log(out / "log.jsonl") if "seconds" in row]
    seconds = (rows[-1]["seconds"] - rows[0]["seconds"]) * config.steps / (PROBED_STEPS - 1)
    write_atomically(path, f"{seconds:.1f}")
    return float(seconds)


def write_small_model(folder: Path, seed: int) -> None:
    """A new model that reads any prompt letter by letter, where it is not there yet."""
    if not (folder / "config.json").is_file():
        save_model(new_text_model(SMALL_HIDDEN, SMALL_LAYERS, seed), folder, "box", {})


Log = Sequence[Mapping[str, Any]]


def draw_training(study: Study, config: StudyConfig, rows: Sequence[StudyRow]) -> None:
    """curves.csv, curves.svg and trainings.md: validation over the steps of every training, where it was best, and
    beside it what the checkpoints solved.
    """
    curves = logs(study, config)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "seed", "step", *CURVE])
    writer.writerows([*key, row["step"], *(row[each] for each in CURVE)] for key, log in curves.items() for row in log)
    write_atomically(config.folder / "curves.csv", file.getvalue())
    write_atomically(config.folder / "trainings.md", trainings_table(curves))
    _draw(config.folder / "curves.svg", curves, {row.name: row for row in rows})


def logs(study: Study, config: StudyConfig) -> dict[tuple[str, int], Log]:
    """By training and seed, the rows of its log that hold a validation; of those that are through."""
    found: dict[tuple[str, int], Log] = {}
    for seed in range(config.seeds):
        for name in study.models:
            training = training_config(study, config, name, seed)
            if is_trained(training):
                rows = read_log(training.out / "log.jsonl")
                found[name, seed] = [row for row in rows if row.get(CURVE[0]) is not None]
    return found


def trainings_table(curves: Mapping[tuple[str, int], Log]) -> str:
    """Every training with its best step by validation loss, and with its last one."""
    head = ("model", "seed", "best step", "loss there", "solved there", "last step", "loss there", "solved there")
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for (name, seed), log in curves.items():
        if log:
            ends = (min(log, key=lambda row: row[CURVE[0]]), log[-1])
            cells = (f"{row['step']} | {row[CURVE[0]]:.4f} | {row[CURVE[1]]}" for row in ends)
            lines.append(f"| {name} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _draw(path: Path, curves: Mapping[tuple[str, int], Log], rows: Mapping[str, StudyRow]) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    options: dict[Any, Any] = {"svg.hashsalt": "arc_kaggle", "svg.fonttype": "none"}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for (name, seed), log in curves.items():
            axes.plot(
                [row["step"] for row in log], [row[CURVE[0]] for row in log], marker="o", label=f"{name}, seed {seed}"
            )
        axes.set(xlabel="training steps", ylabel="validation loss of its own labels and data, nats")
        steps = {int(name.rpartition(", step ")[2]): row for name, row in rows.items() if ", step " in name}
        if steps:
            solved = axes.twinx()
            for measure in ("vote_2", "correct_pixels"):
                means = [100 * steps[step].mean(measure).mean for step in sorted(steps)]
                solved.plot(sorted(steps), means, linestyle="--", marker="s", label=f"{measure}, %")
            solved.set(ylabel="per cent of test inputs", ylim=(0, None))
            solved.legend(loc="upper center")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, metadata={"Date": None})
