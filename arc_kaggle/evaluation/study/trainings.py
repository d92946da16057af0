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
from arc_kaggle.evaluation.study.catalogue import Study
from arc_kaggle.evaluation.study.cells import option_words
from arc_kaggle.evaluation.study.table import StudyRow
from arc_kaggle.models.card import read_card
from arc_kaggle.models.loading import save_model
from arc_kaggle.models.new_model import new_text_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import write_atomically
from arc_kaggle.system.paths import safe_name
from arc_kaggle.training.log import read_log
from arc_kaggle.training.session import train

Models = Mapping[int, Mapping[str, ModelFolder]]
"""By seed, then by title."""
PROBED_STEPS = 20
SMALL_HIDDEN, SMALL_LAYERS = 96, 4
"""Of the new model that reads any prompt."""
CURVE = ("validation_loss", "validation_solved")


def training_config(study: Study, config: StudyConfig, name: str, seed: int) -> TrainConfig:
    """The options of `train` for one model and seed. Raises ConfigError."""
    folder = config.folder / "models" / f"seed-{seed}" / safe_name(name)
    shared = shlex.split(study.training.format(small=config.folder / "models" / f"small-{seed}"))
    words = ["--out", str(folder), "--seed", str(seed), *shared, *option_words(config.train)]
    return config_of_words(TrainConfig, [*words, *shlex.split(study.models[name])])


def train_models(study: Study, config: StudyConfig, until: Deadline, say: Callable[[str], None]) -> Models:
    """Train what is not trained yet; nothing at all is given where there is no time for every model of a seed.

    Each model is first trained for some steps, to tell the hours. Raises ArcKaggleError subclasses.
    """
    configs = {
        (seed, name): training_config(study, config, name, seed)
        for seed in range(config.seeds)
        for name in study.models
    }
    if "{small}" in study.training:
        for seed in range(config.seeds):
            write_small_model(config.folder / "models" / f"small-{seed}", seed)
    left = {key: each for key, each in configs.items() if not is_trained(each)}
    seconds = (
        {name: probe(configs[0, name], config.folder / "probe" / "models" / safe_name(name)) for name in study.models}
        if left
        else {}
    )
    total = sum(seconds[name] for _, name in left)
    say(f"{len(study.models)} models x {config.seeds} seeds: about {total / 3600:.2f} h of training to go")
    if config.plan:
        return {}
    for (seed, name), each in left.items():
        if seconds[name] > until.seconds_left:
            expected = f"{seconds[name]:.0f} s expected, {until.seconds_left:.0f} s left"
            say(f"model {name}, seed {seed}: {expected}: it ends here")
            return {}
        started = time.monotonic()
        train(each)
        say(f"model {name}, seed {seed}: {each.steps} steps, {time.monotonic() - started:.0f} s")
    return {seed: dict(_found(study, configs, seed)) for seed in range(config.seeds)}


def _found(
    study: Study, configs: Mapping[tuple[int, str], TrainConfig], seed: int
) -> Iterator[tuple[str, ModelFolder]]:
    for name in study.models:
        models = find_model_folders((configs[seed, name].out,))
        for model in models if study.each_checkpoint else models[-1:]:
            yield f"{name}, step {model.step}" if study.each_checkpoint else name, model


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


def draw_training(folder: Path, models: Models, rows: Sequence[StudyRow]) -> None:
    """curves.csv and curves.svg: validation over the steps of every training, beside what its checkpoints solved."""
    points = [(*key, row) for key, log in logs(models).items() for row in log]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "seed", "step", *CURVE])
    writer.writerows([name, seed, row["step"], *(row[each] for each in CURVE)] for name, seed, row in points)
    write_atomically(folder / "curves.csv", file.getvalue())
    _draw(folder / "curves.svg", logs(models), {row.name: row for row in rows})


def logs(models: Models) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """By training and seed, the rows of its log that hold a validation."""
    found = {}
    for seed, of_seed in models.items():
        for title, model in of_seed.items():
            place = next(p for p in (model.folder, *model.folder.parents) if (p / "log.jsonl").is_file())
            rows = [row for row in read_log(place / "log.jsonl") if row.get(CURVE[0]) is not None]
            found[title.partition(", step ")[0], seed] = rows
    return found


def _draw(
    path: Path, curves: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]], rows: Mapping[str, StudyRow]
) -> None:
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
        axes.set(xlabel="training steps", ylabel="validation loss, nats")
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
