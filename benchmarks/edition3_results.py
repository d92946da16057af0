"""All that follows the training of edition 3, by one command that goes on where it was.

    python benchmarks/edition3_results.py OUT CHECKPOINT REARC --edition-2 FOLDER [--kept FOLDER]
        [--real-model FOLDER] [--hours evaluate=12] [--only STEP ...]
    python benchmarks/edition3_results.py OUT --toy

CHECKPOINT is the folder of a training (its --out, or one of its checkpoints), REARC the file of re-arc pairs that it
was trained on; --kept holds copies of earlier checkpoints, for the curve. Every step prints its hours before it starts
and begins nothing that should not end within its limit; one that is through lies in OUT/steps and is not done again,
and one that ran out of hours goes on with the next call. The steps:

model     the moving average as a folder of at most 20 MB, its card, and its leaks looked for anew
recipe    steps and learning rate of test-time fine-tuning, views, and joint seconds a puzzle, chosen on held-out
          training rules alone by a rule that stands below, and frozen into OUT/recipe.json
joint     none, joint, single, joint + single, on held-out rules in equal time a puzzle, for the box
real      the same for a pretrained model (--real-model), with LoRA
evaluate  all of arc1:evaluation and arc2:evaluation, once: none, TTFT, joint + TTFT; one view and all views; exact
          paired tests against edition 2
curve     validation loss and solved held-out puzzles over tokens, and what ten times the tokens would buy
board     rows of the leaderboard

The result goes to --result, and as tables in Markdown to OUT/edition3.md.

Chosen is the row with the highest vote_2, of equal ones that with the highest accuracy, of equal ones the fastest,
among those that take at most 12 s a puzzle, so that a dry run of 20 tasks stays under 4 minutes; where none does, it is
the fastest. 200 steps take longer, by a first look at a checkpoint, and are not tried. Of equal numbers of views it is
the one nearest to 8, under which edition 2 was judged.

Expected, written down before anything ran: without TTFT 2% of the outputs of arc1:evaluation by two attempts, with
TTFT 9%, joint + TTFT 11% (the aim is 12%), with one view 5%; of arc2:evaluation 0 to 2 tasks of 120 whatever is done;
100 or 200 steps at 1.5e-3 chosen, Muon no better; joint alone between none and single, joint + single ahead of single
by less than its interval; on the pretrained model no evidence among the four. The loss falls by a power of the tokens
near -0.15 until the learning rate falls, which takes another 10%; ten times the tokens buy 0.05 nats and three points
of solved puzzles, in doubt by as much.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.command_line import config_of_words
from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import OptimConfig, TuneConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.evaluation.columns import Column, Evaluation
from arc_kaggle.evaluation.comparison import NO_TUNING, Comparison, compare
from arc_kaggle.evaluation.evaluate import evaluate
from arc_kaggle.evaluation.model_folders import MODEL_FILES, find_model_folders
from arc_kaggle.evaluation.parts import column_of, cut
from arc_kaggle.evaluation.report import comparison_json, evaluation_json, share
from arc_kaggle.evaluation.study.catalogue import Study
from arc_kaggle.evaluation.study.study import run_study
from arc_kaggle.evaluation.study.table import StudyRow, bases_of, markdown
from arc_kaggle.models.card import read_card, write_card
from arc_kaggle.system.files import write_atomically, write_json
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import task_to_json
from arc_kaggle.training.log import read_log
from arc_kaggle.training.mixture import load_mixture

sys.path.insert(0, str(Path(__file__).parent))
from leaderboard import BOARD, Entry, entries_of, leaderboard_table

RESULT = Path(__file__).parent / "results" / "edition3.json"
EDITION_2 = Path(__file__).parent / "results" / "evaluation-arc1-box2.json"
EDITION_2_RECIPE = TuneConfig(
    weights="all",
    steps=100,
    tokens_per_step=1024,
    max_tokens=1024,
    optim=OptimConfig(learning_rate=3e-3, schedule="linear", warmup_fraction=0.05),
)
"""What `box` was when edition 2 was made."""
NAME = "3: GridLM"
MOST_BYTES = 20_000_000
MOST_SECONDS = 12.0
"""Of a puzzle under the recipe that is chosen, on all cores together."""
HOURS = {"model": 0.2, "recipe": 3.0, "joint": 2.0, "real": 3.0, "evaluate": 12.0, "curve": 2.0, "board": 0.1}
"""Most hours of each step in one call. On two free cores, where 50 steps take a puzzle 6 s on both, they should take
0.1, 1.1, 0.7, 1.2, 5, 0.6 and no hours."""
Row = dict[str, Any]


class Unfinished(Exception):
    """A step has used up its hours; the next call goes on with it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done."""

    tasks: str = "held-out"
    n_tasks: int = 48
    longest: int = 2000
    seeds: int = 2
    steps: tuple[int, ...] = (25, 50, 100)
    rates: tuple[str, ...] = ("5e-4", "1.5e-3", "3e-3", "muon 3e-3")
    """Learning rates that are tried at the steps in the middle; the best one is then tried at all steps."""
    recipe_seeds: int = 1
    fixed: str = "--tune.max-tokens 2048"
    """Options of every run of the box."""
    most_views: int = 16
    joint_seconds: tuple[float, ...] = (4.0, 16.0)
    """Of the joint stage for each puzzle."""
    real: str = "--recipe lora --generate.n-views 2 --generate.max-new-tokens 64"
    """Options of every run of the pretrained model."""
    real_steps: int = 16
    n_real: int = 24
    real_longest: int = 350
    sets: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    part_size: int = 20
    n_checkpoints: int = 8
    """Most checkpoints of the curve that solve puzzles."""
    n_curve: int = 40


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    out: Path
    checkpoint: Path
    rearc: Path
    kept: Path | None
    real_model: Path | None
    edition_2: Path
    result: Path
    board: Path
    hours: Mapping[str, float]
    sizes: Sizes
    until: float = np.inf
    """Monotonic seconds at which the hours of the step are over."""

    @property
    def model(self) -> Path:
        return self.out / "model"

    @property
    def minutes_left(self) -> float:
        """Of the step."""
        return min(1e6, (self.until - time.monotonic()) / 60)

    def done(self, name: str) -> Row:
        """What an earlier step came to."""
        found: Row = json.loads((self.out / "steps" / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def study(self, name: str, study: Study, models: Sequence[Path], **changes: Any) -> list[StudyRow]:
        """Run a study on held-out puzzles within the hours of its step. Raises Unfinished."""
        sizes = self.sizes
        config = StudyConfig(
            name,
            tuple(models),
            tasks=sizes.tasks,
            out=self.out / name,
            hours=max(1e-6, self.minutes_left / 60),
            **{"n_tasks": sizes.n_tasks, "longest": sizes.longest, "seeds": sizes.seeds, **changes},
        )
        print(f"{name}: {study.question}", flush=True)
        rows = run_study(config, study=study)
        n_puzzles = len(json.loads((config.folder / "tasks.json").read_text(encoding="utf-8")))
        n_done = len({(task, seed) for task, _, seed in rows[0].values}) if rows else 0
        if n_done < n_puzzles * config.seeds:
            raise Unfinished(f"study {name}: {n_done} of {n_puzzles * config.seeds} puzzles are done")
        return rows


def best_of(rows: Sequence[StudyRow], most_seconds: float = MOST_SECONDS) -> StudyRow:
    """By the rule of the docstring above."""
    within = [row for row in rows if (row.seconds or 0.0) <= most_seconds]
    within = within or [min(rows, key=lambda row: row.seconds or 0.0)]
    return max(within, key=lambda row: (row.mean("vote_2").mean, row.mean("accuracy").mean, -(row.seconds or 0.0)))


def told(rows: Sequence[StudyRow]) -> list[Row]:
    """Rows as JSON: means with intervals, and the difference to the first row."""
    found = []
    for row in rows:
        less = None if row is rows[0] else row.less(rows[0], "vote_2")
        scores = {name: vars_of(row.mean(name)) for name in ("accuracy", "correct_pixels", "pass_n", "vote_2")}
        versus = {"vote_2_less_first": vars_of(less.score), "shows": less.shows} if less else {}
        n = {"n_puzzles": row.n_tasks, "n_outputs": len(row.values)}
        found.append({"row": row.name, **n, "seconds_a_puzzle": row.seconds, **scores, **versus})
    return found


def vars_of(score: Any) -> list[float]:
    return [round(each, 5) for each in (score.mean, score.low, score.high)]


# model ----------------------------------------------------------------------------------------------------------------


def make_model(options: Options) -> Row:
    """The moving average, or the weights themselves where validation finds those better; with a checked card."""
    averaged = options.checkpoint / "ema"
    card = read_card(options.checkpoint)
    assert card is not None, f"{options.checkpoint}: found no card, expected a folder that `train` wrote"
    facts = card.facts
    is_worse = (facts.get("ema_validation_loss") or 0.0) > (facts.get("validation_loss") or np.inf)
    source = averaged if (averaged / "config.json").is_file() and not is_worse else options.checkpoint
    shutil.rmtree(options.model, ignore_errors=True)
    options.model.mkdir(parents=True)
    for path in {path for pattern in (*MODEL_FILES, "generation_config.json") for path in source.glob(pattern)}:
        shutil.copyfile(path, options.model / path.name)
    leaks = leaks_of(facts, options)
    weights = "moving average" if source == averaged else "the weights themselves"
    write_card(options.model, replace(card, facts={**facts, "edition": NAME, "weights": weights, "leaks_now": leaks}))
    n_bytes = sum(path.stat().st_size for path in options.model.iterdir())
    if n_bytes > MOST_BYTES:
        raise SystemExit(f"{options.model}: found {n_bytes} bytes, expected at most {MOST_BYTES}")
    if facts["leaks_trained_on"] or leaks["trained_on"]:
        raise SystemExit(f"{options.model}: trained on leaks: {facts['leaks_trained_on']} {leaks['trained_on']}")
    names = ("data", "steps", "tokens", "hours", "validation_loss", "ema_validation_loss", "validation_puzzles")
    return {"weights": weights, "bytes": n_bytes, "leaks": leaks, **{name: facts.get(name) for name in names}}


def leaks_of(facts: Row, options: Options) -> Row:
    """What the finder of leaks says of the same data today, beside what it said when the training began."""
    paths = {options.rearc.name: str(options.rearc)}
    data = []
    for entry in facts["data"]:
        name, equals, weight = entry.partition("=")
        data.append(f"{paths.get(name, name)}{equals}{weight}")
    settings = facts["settings"]
    known = {name: settings[name] for name in ("hold_out", "seed")}
    against = tuple(settings["against"])
    now = load_mixture(TrainConfig(Path(), tuple(data), drop_leaks=True, against=against, **known)).leaks
    then = facts["leaks_left_out"]
    more = sorted((Counter(now) - Counter(then)).elements())
    return {"against": list(against), "left_out": len(then), "found_now": len(now), "trained_on": more}


# recipe ---------------------------------------------------------------------------------------------------------------


def rate_words(rate: str) -> str:
    """Of a learning rate, with the optimizer before it where that is not AdamW."""
    *matrices, value = rate.split()
    return " ".join([f"--tune.optim.learning-rate {value}", *(f"--tune.optim.matrices {each}" for each in matrices)])


def choose_recipe(options: Options) -> Row:
    """Steps and rate, then views, then joint seconds; each given what was chosen before."""
    sizes, models, rows = options.sizes, [options.model], {}
    middle, views = sizes.steps[len(sizes.steps) // 2], f"--generate.n-views {min(8, sizes.most_views)}"

    def tune(*tried: tuple[int, str]) -> list[StudyRow]:
        words = {f"{steps} steps at {rate}": f"--tune.steps {steps} {rate_words(rate)}" for steps, rate in tried}
        study = Study("How long, and at which rate?", {"none": "--recipe none", **words}, f"{sizes.fixed} {views}")
        return options.study("recipe-tuning", study, models, seeds=sizes.recipe_seeds)

    at_middle = [(middle, rate) for rate in sizes.rates]
    rate = best_of(tune(*at_middle)[1:]).name.partition(" steps at ")[2]
    rows["tuning"] = tune(*at_middle, *((steps, rate) for steps in sizes.steps if steps != middle))
    best = best_of(rows["tuning"][1:])
    steps, _, rate = best.name.partition(" steps at ")
    words = f"{sizes.fixed} --tune.steps {steps} {rate_words(rate)}"
    most = Study("How many views?", {"views": words}, f"--generate.n-views {sizes.most_views}", reads="views")
    rows["views"] = options.study("recipe-views", most, models, seeds=sizes.recipe_seeds)
    n_views = int(max(rows["views"], key=lambda row: (row.mean("vote_2").mean, -abs(int(row.name) - 8))).name)
    many = {
        "0 s": words,
        **{f"{s:g} s": f"{words} --joint-minutes {minutes(s, options):g}" for s in sizes.joint_seconds},
    }
    joint = Study("How long a joint stage?", many, f"--generate.n-views {n_views}", is_whole=True)
    rows["joint"] = options.study("recipe-joint", joint, models, seeds=sizes.recipe_seeds)
    seconds = best_of(rows["joint"][1:]).name.partition(" ")[0]
    none = rows["tuning"][0]
    frozen = {
        "steps": int(steps),
        "rate": rate,
        "views": n_views,
        "joint_seconds_a_task": float(seconds),
        "words": f"{words} --generate.n-views {n_views}",
        "tuning_words": words,
        "tuning_seconds_a_puzzle": max(0.1, (best.seconds or 0.0) - (none.seconds or 0.0)),
        "seconds_a_puzzle": best.seconds or 0.0,
    }
    write_json(options.out / "recipe.json", frozen)
    tables = {name: markdown(each, "vote_2") for name, each in rows.items()}
    return {"chosen": frozen, "rows": {name: told(each) for name, each in rows.items()}, "tables": tables}


def minutes(seconds: float, options: Options, n_tasks: int | None = None) -> float:
    """Of a joint stage of so many seconds for each puzzle."""
    return seconds * (n_tasks or options.sizes.n_tasks) / 60


# joint ----------------------------------------------------------------------------------------------------------------


def joint_rows(options: Options, name: str, model: Path, tuned: str, n_steps: int, **changes: Any) -> Row:
    """The four rows; the time of joint stages is what single fine-tuning took. `tuned` are the options of every run."""
    n_tasks = changes.get("n_tasks", options.sizes.n_tasks)
    known = {"none": "--recipe none", "single": f"--tune.steps {n_steps}"}
    first = Study("Joint or single?", known, tuned, is_whole=True)
    rows = options.study(name, first, [model], **changes)
    spent = max(0.1, (rows[1].seconds or 0.0) - (rows[0].seconds or 0.0))
    whole, half = minutes(spent, options, n_tasks), minutes(spent / 2, options, n_tasks)
    path = options.out / name / "minutes.json"  # what later calls keep to
    if path.is_file():
        whole, half = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, [whole, half])
    all_rows = {
        "none": known["none"],
        "joint": f"--tune.steps 0 --joint-minutes {whole:.3f}",
        "single": known["single"],
        "joint + single": f"--tune.steps {max(1, n_steps // 2)} --joint-minutes {half:.3f}",
    }
    rows = options.study(name, Study("Joint or single?", all_rows, tuned, is_whole=True), [model], **changes)
    return {"seconds_a_puzzle": spent, "rows": told(rows), "table": markdown(rows, "vote_2")}


def joint_table(options: Options) -> Row:
    chosen = options.done("recipe")["chosen"]
    words = f"{options.sizes.fixed} --generate.n-views {chosen['views']} {rate_words(chosen['rate'])}"
    return joint_rows(options, "joint", options.model, words, chosen["steps"])


def real_table(options: Options) -> Row:
    if options.real_model is None:
        return {"left_out": "no --real-model was named"}
    sizes = options.sizes
    few = {"n_tasks": sizes.n_real, "longest": sizes.real_longest, "seeds": 1}
    return joint_rows(options, "real", options.real_model, sizes.real, sizes.real_steps, **few)


# evaluate -------------------------------------------------------------------------------------------------------------


def tune_of(options: Options) -> TuneConfig:
    """The fine-tuning that is frozen."""
    chosen = options.done("recipe")["chosen"]
    words = ["--tasks", "a", "--out", "b", "--model", str(options.model), *chosen["tuning_words"].split()]
    return config_of_words(SolveConfig, words).tune


def evaluate_sets(options: Options) -> Row:
    """Every set by none, TTFT, joint + TTFT; and what edition 2 solves of them."""
    return {name: evaluate_set(name, options) for name in options.sizes.sets}


def evaluate_set(name: str, options: Options) -> Row:
    chosen, tasks = options.done("recipe")["chosen"], load_tasks(name)
    held_out = load_tasks(options.out / "recipe-tuning" / "tasks.json")
    longer = np.mean([*map(prompt_length, tasks)]) / np.mean([*map(prompt_length, held_out)])
    single = len(tasks) * chosen["seconds_a_puzzle"] * longer / 3600
    joint = single + chosen["joint_seconds_a_task"] * len(tasks) / 3600
    print(f"{name}: about {single:.2f} h for none and TTFT, {joint:.2f} h for joint + TTFT, by held-out puzzles")
    place, generate = options.out / "evaluate" / safe(name), GenerateConfig(n_views=chosen["views"])
    shared: Row = {"tasks": name, "generate": generate, "part_size": options.sizes.part_size}
    evaluation = evaluate_within(options, (options.model,), place / "single", tune=tune_of(options), **shared)
    column = joint_column(name, options, generate, joint)
    whole = replace(evaluation, columns=(*evaluation.columns, column))
    write_json(place / "evaluation.json", evaluation_json(whole))
    before = edition_2(name, options, shared)
    if other := [each for each, digest in before.digests.items() if evaluation.digests.get(each, digest) != digest]:
        raise SystemExit(f"{name}: found other grids of {other[0]} than edition 2 was judged on, expected the same")
    columns = {each.recipe: each for each in whole.columns}
    tuned = next(each for each in whole.columns if each.recipe not in (NO_TUNING, column.recipe))
    found = [compare("joint", column, tuned), *against_edition_2(columns, before)]
    ways = ("one_view", "two_attempts", "any_view", "submitted")
    solved = {each.recipe: {way: [each.count(way), len(each.outputs)] for way in ways} for each in whole.columns}  # type: ignore[arg-type]
    seconds = {each.recipe: [each.tune_seconds, each.infer_seconds] for each in whole.columns}
    told_all = [comparison_json(each) for each in found] + evaluation_json(whole)["comparisons"]
    return {"n_tasks": len(tasks), "solved": solved, "seconds": seconds, "comparisons": told_all}


def evaluate_within(options: Options, models: tuple[Path, ...], out: Path, **shared: Any) -> Evaluation:
    """An evaluation of all tasks. Raises Unfinished where the minutes of the step were too few."""
    limit = max(0.01, options.minutes_left)
    evaluation = evaluate(EvaluateConfig(models, out=out, time_limit_minutes=limit, **shared))
    if not evaluation.is_complete or len(evaluation.columns) < 2:
        n_done = [column.n_tasks for column in evaluation.columns]
        raise Unfinished(f"{out}: {n_done} of {evaluation.n_selected} tasks are done")
    return evaluation


def joint_column(name: str, options: Options, generate: GenerateConfig, hours: float) -> Column:
    """One run of all tasks behind a joint stage, which goes on after a kill. Raises Unfinished before it begins."""
    chosen, tasks = options.done("recipe")["chosen"], load_tasks(name)
    out = options.out / "evaluate" / safe(name) / "joint"
    config = SolveConfig(
        name,
        out,
        model=options.model,
        tune=tune_of(options),
        generate=generate,
        joint_minutes=minutes(chosen["joint_seconds_a_task"], options, len(tasks)),
        scratch=options.out / "scratch",
    )
    (model,) = find_model_folders((options.model,))
    (part,) = cut(tasks, len(tasks), model, settle(config).config)
    part = replace(part, config=replace(part.config, overwrite=False))
    if part.seconds() is None:
        if hours * 60 > options.minutes_left:
            left = options.minutes_left / 60
            raise Unfinished(f"{name}, joint + TTFT: {hours:.2f} h expected, {left:.2f} h left of the limit")
        part.run()
    column = column_of([part])
    return replace(column, recipe="joint + TTFT")


def edition_2(name: str, options: Options, shared: Row) -> Evaluation:
    """What edition 2 solved: as it was recorded, or now, with the same views."""
    if name == "arc1:evaluation":
        return Evaluation.read(EDITION_2)
    out = options.out / "evaluate" / safe(name) / "edition-2"
    return evaluate_within(options, (options.edition_2,), out, tune=EDITION_2_RECIPE, **shared)


def against_edition_2(columns: Mapping[str, Column], before: Evaluation) -> list[Comparison]:
    """Every way of edition 3 against the same of edition 2: none against none, all else against TTFT."""
    by_recipe = {NO_TUNING if each.recipe == NO_TUNING else "TTFT": each for each in before.columns}
    pairs = [(each, by_recipe.get(name if name == NO_TUNING else "TTFT")) for name, each in columns.items()]
    return [
        compare(f"edition 2, {way}", mine, replace(other, checkpoint=f"edition 2 {other.checkpoint}"), way, way)
        for mine, other in pairs
        if other is not None
        for way in ("two_attempts", "one_view")
    ]


def safe(name: str) -> str:
    return Path(name).stem.replace(":", "-")


# curve ----------------------------------------------------------------------------------------------------------------

TENFOLD = 10.0
Floats = NDArray[np.float64]


def draw_curve(options: Options) -> Row:
    """Losses of the log, solved puzzles of the checkpoints that were kept, and what more tokens would buy."""
    places = (options.checkpoint, options.checkpoint.parent.parent)  # of a training, or of one of its checkpoints
    log = next((rows for place in places if (rows := read_log(place / "log.jsonl"))), [])
    points = [row for row in log if row.get("ema_validation_loss") is not None and row.get("tokens")]
    peak = max((row["learning_rate"] for row in points), default=0.0)
    flat = [row for row in points if row["learning_rate"] == peak]
    last = points[-1] if points else None
    found: Row = {
        "points": [
            [row["tokens"], row["validation_loss"], row["ema_validation_loss"], row["ema_validation_solved"]]
            for row in points
        ]
    }
    if last and len(flat) >= 4:
        tokens, losses = (np.array([row[name] for row in flat], float) for name in ("tokens", "ema_validation_loss"))
        found["loss"] = forecast(tokens, losses, float(last["tokens"]), float(last["ema_validation_loss"]))
    if options.kept:
        models = spread(sorted(options.kept.glob("step-*/ema")), options.sizes.n_checkpoints)
        study = Study("What do checkpoints solve?", {"": options.done("recipe")["chosen"]["words"]}, against_last=True)
        rows = options.study("curve", study, [*models, options.model], seeds=1, n_tasks=options.sizes.n_curve)
        by_name = {model.name: model.tokens for model in find_model_folders([*models, options.model])}
        found["solved"] = solved_over_tokens({by_name[row.name] or 0: row for row in rows})
        found["table"] = markdown(rows, "vote_2", bases_of(rows, is_last=True))
    plot(found, options.out / "curve.svg")
    return found


def spread(folders: Sequence[Path], n: int) -> list[Path]:
    """At most so many of some folders, evenly, the last among them."""
    if len(folders) <= n:
        return list(folders)
    return [folders[round(i)] for i in np.linspace(0, len(folders) - 1, n)]


def power_law(tokens: Floats, losses: Floats, floors: Floats) -> tuple[float, float, float]:
    """(floor, a, b) of floor + a * tokens^b with the least squared error, over the floors that are given."""
    best = (np.inf, (0.0, 0.0, 0.0))
    for floor in floors:
        b, log_a = np.polyfit(np.log(tokens), np.log(losses - floor), 1)
        error = float(((floor + np.exp(log_a) * tokens**b - losses) ** 2).sum())
        best = min(best, (error, (float(floor), float(np.exp(log_a)), float(b))))
    return best[1]


def forecast(tokens: Floats, losses: Floats, end: float, reached: float) -> Row:
    """Loss after ten times the tokens of the whole run, by power laws with and without a floor.

    They are fitted where the learning rate was at its peak and the first tenth is over. What the fall of the rate took
    at the end, as a factor, is taken to come again. The interval is of bootstrap draws over points and of both laws; it
    says nothing of what the points cannot show, such as a model too small for so many tokens.
    """
    late = tokens >= 0.1 * tokens.max()
    tokens, losses = tokens[late], losses[late]
    floors = {"without a floor": np.zeros(1), "with a floor": np.linspace(0.0, 0.95 * losses.min(), 40)}
    rng, draws, laws = np.random.default_rng(0), [], {}
    for name, tried in floors.items():
        laws[name] = power_law(tokens, losses, tried)
        for _ in range(200):
            some = rng.integers(len(tokens), size=len(tokens))
            if len({*tokens[some]}) > 2:
                floor, a, b = power_law(tokens[some], losses[some], tried)
                draws.append(reached * (floor + a * (TENFOLD * end) ** b) / (floor + a * end**b))
    told_laws = {}
    for name, (floor, a, b) in laws.items():
        now, then = (floor + a * n**b for n in (end, TENFOLD * end))
        told_laws[name] = {"floor": floor, "a": a, "b": b, "at_ten_times": reached * then / now}
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return {"tokens": end, "reached": reached, "laws": told_laws, "at_ten_times_95": [float(low), float(high)]}


def solved_over_tokens(rows: Mapping[int, StudyRow]) -> Row:
    """A line over decades of tokens through the share of solved puzzles; its slope is what ten times as many buy."""
    tokens = sorted(rows)
    keys = sorted(set.intersection(*(set(row.values) for row in rows.values())))
    shares = np.array([[rows[n].values[key]["vote_2"] for key in keys] for n in tokens])  # (checkpoints, outputs)
    decades = np.log10(np.maximum(1, tokens))

    def slope(some: NDArray[np.int64]) -> float:
        return float(np.polyfit(decades, shares[:, some].mean(axis=1), 1)[0]) if len(tokens) > 1 else float("nan")

    rng = np.random.default_rng(0)
    draws = [slope(rng.integers(len(keys), size=len(keys))) for _ in range(1000 if len(tokens) > 1 else 0)]
    interval = [float(each) for each in np.quantile(draws, [0.025, 0.975])] if draws else None
    points = [[n, float(share), len(keys)] for n, share in zip(tokens, shares.mean(axis=1), strict=True)]
    more = {"points_a_tenfold": slope(np.arange(len(keys))), "points_a_tenfold_95": interval} if draws else {}
    return {"points": points, **more}


def plot(found: Row, path: Path) -> None:
    """Losses and solved puzzles over tokens in one figure."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "arc_kaggle", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for column, name in ((1, "weights"), (2, "moving average")):
            axes.plot([row[0] / 1e6 for row in found["points"]], [row[column] for row in found["points"]], label=name)
        axes.set(xlabel="million tokens", ylabel="validation loss, nats a label", xscale="log")
        if "solved" in found:
            solved = axes.twinx()
            points = found["solved"]["points"]
            solved.plot([n / 1e6 for n, *_ in points], [100 * s for _, s, _ in points], "s--", color="tab:green")
            solved.set(ylabel="held-out puzzles solved with TTFT, %", ylim=(0, None))
        axes.legend()
        axes.grid(alpha=0.3)
        figure.savefig(path, metadata={"Date": None})


# board ----------------------------------------------------------------------------------------------------------------


def add_rows(options: Options) -> Row:
    """A row for TTFT and one for joint + TTFT, of every set; those that are there are not added again."""
    board: list[Entry] = json.loads(options.board.read_text(encoding="utf-8")) if options.board.is_file() else []
    about = {"date": time.strftime("%Y-%m-%d"), "commit": commit()}
    added = []
    for name in options.sizes.sets:
        evaluation = Evaluation.read(options.out / "evaluate" / safe(name) / "evaluation.json")
        for entry in entries_of(evaluation):
            edition = NAME if not entry["recipe"].startswith("joint") else f"{NAME}, joint + TTFT"
            if not any((each["edition"], each["tasks"]) == (edition, entry["tasks"]) for each in board):
                added.append({"edition": edition, **about, **entry})
    write_json(options.board, [*board, *added])
    return {"added": [[row["edition"], row["tasks"]] for row in added], "table": leaderboard_table([*board, *added])}


def commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


# All steps ------------------------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Options], Row]] = {
    "model": make_model,
    "recipe": choose_recipe,
    "joint": joint_table,
    "real": real_table,
    "evaluate": evaluate_sets,
    "curve": draw_curve,
    "board": add_rows,
}


def run(options: Options, only: Sequence[str] = ()) -> int:
    """Do the steps that are not through; 1 where one of them has to go on in another call."""
    (options.out / "steps").mkdir(parents=True, exist_ok=True)
    code, left = 0, [name for name in STEPS if not (options.out / "steps" / f"{name}.json").is_file()]
    print(f"steps to go: {', '.join(left) or 'none'}; at most {sum(options.hours[name] for name in left):g} h in all")
    for name, step in STEPS.items():
        path = options.out / "steps" / f"{name}.json"
        if path.is_file():
            print(f"{name}: is through")
            continue
        if only and name not in only:
            continue
        print(f"{name}: at most {options.hours[name]:g} h in this call", flush=True)
        begun = time.monotonic()
        try:
            found = step(replace(options, until=begun + 3600 * options.hours[name]))
        except Unfinished as error:
            print(f"{name}: {error}; the same command goes on")
            code = 1
            break
        hours = round((time.monotonic() - begun) / 3600, 3)
        write_json(path, {**found, "hours_of_last_call": hours, "commit": commit()})
        print(f"{name}: through, {hours:g} h", flush=True)
    done = {name: options.done(name) for name in STEPS if (options.out / "steps" / f"{name}.json").is_file()}
    write_json(options.result, {"edition": NAME, "steps": done})
    write_atomically(options.out / "edition3.md", "\n\n".join(tables(done)) + "\n")
    return code


def tables(done: Mapping[str, Row]) -> list[str]:
    """All steps in Markdown."""
    parts = ["# Edition 3"]
    if model := done.get("model"):
        size = f"{model['bytes'] / 1e6:.1f} MB, {model['weights']}"
        parts.append(f"{model['tokens']:,} tokens in {model['steps']:,} steps; {size}.")
    if recipe := done.get("recipe"):
        chosen = recipe["chosen"]
        joint = f"joint stage {chosen['joint_seconds_a_task']:g} s a task"
        parts += ["## The recipe, on held-out rules", f"Chosen: `{chosen['words']}`, {joint}."]
        parts += list(recipe["tables"].values())
    for name, title in (("joint", "the box"), ("real", "a pretrained model")):
        if "table" in done.get(name, {}):
            parts += [
                f"## Joint and single in equal time: {title}",
                f"{done[name]['seconds_a_puzzle']:.1f} s a puzzle.",
                done[name]["table"],
            ]
    for name, one in done.get("evaluate", {}).items():
        if isinstance(one, dict):
            parts += [f"## All {one['n_tasks']} tasks of {name}", solved_table(one), compared_table(one)]
    if "curve" in done:
        parts += ["## Over tokens", *curve_words(done["curve"])]
    if "board" in done:
        parts += ["## The leaderboard", done["board"]["table"]]
    return parts


def solved_table(one: Row) -> str:
    names = {
        "one_view": "one view",
        "two_attempts": "two attempts",
        "any_view": "any view",
        "submitted": "with rules, as submitted",
    }
    lines = [f"| | {' | '.join(names.values())} | s a task |", "|---|" + "---|" * len(names) + "--:|"]
    for recipe, solved in one["solved"].items():
        cells = [share(*solved[way]) for way in names]
        lines.append(f"| {recipe} | {' | '.join(cells)} | {sum(one['seconds'][recipe]):.1f} |")
    return "\n".join(lines)


def compared_table(one: Row) -> str:
    lines = ["| of outputs | only the first | only the second | points | p |", "|---|--:|--:|--:|--:|"]
    for each in one["comparisons"]:
        outputs = each["outputs"]
        p = "-" if outputs["p_value"] is None else f"{outputs['p_value']:.2g}"
        counts = f"{outputs['only_first']} | {outputs['only_second']} | {100 * outputs['uplift']:+.1f} | {p}"
        lines.append(f"| {each['subject']}: {each['first']} against {each['second']} | {counts} |")
    return "\n".join(lines)


def curve_words(curve: Row) -> list[str]:
    parts = [curve["table"]] if "table" in curve else []
    if loss := curve.get("loss"):
        low, high = loss["at_ten_times_95"]
        laws = (f"{name}: {law['at_ten_times']:.4f}, exponent {law['b']:.3f}" for name, law in loss["laws"].items())
        parts.append(
            f"Validation loss {loss['reached']:.4f} after {loss['tokens'] / 1e6:.0f}M tokens; after ten times as many "
            f"{low:.4f} to {high:.4f} ({'; '.join(laws)}). The interval holds both laws and resampled points, not a "
            "model that is too small for so many tokens."
        )
    if "points_a_tenfold" in (solved := curve.get("solved", {})):
        low, high = (100 * each for each in solved["points_a_tenfold_95"])
        parts.append(
            f"Ten times the tokens go with {100 * solved['points_a_tenfold']:+.1f} points of solved held-out puzzles "
            f"({low:+.1f}..{high:+.1f}, a line over decades)."
        )
    return parts


def toy_options(out: Path, **changes: Any) -> Options:
    """A model of its own, trained in seconds, and all steps at tiny sizes."""
    from arc_kaggle.training.session import train

    folder, rules, asked = (out / f"toy-{name}" for name in ("training", "rules.json", "set.json"))
    out.mkdir(parents=True, exist_ok=True)
    if not asked.is_file():
        known = {task.id: task_to_json(task) for task in load_tasks("arc1:training", "shortest:8")}
        write_json(rules, known)
        write_json(asked, {name: known[name] for name in [*known][:3]})
    sizes: Row = {"hidden_size": 32, "n_layers": 1, "steps": 12, "save_every": 2, "keep_checkpoints": 6}
    lengths: Row = {"tokens_per_batch": 256, "max_tokens": 256, "first_max_tokens": 256, "bucket": 32}
    train(
        TrainConfig(
            folder,
            (str(rules),),
            architecture="grid",
            precision="fp32",
            ema=0.5,
            decay_fraction=0.2,
            hold_out=0.4,
            validation_puzzles=2,
            drop_leaks=True,
            **sizes,
            **lengths,
        )
    )
    tiny = Sizes(
        tasks=str(rules),
        n_tasks=2,
        longest=400,
        seeds=1,
        steps=(2, 1),
        rates=("muon 1e-3",),
        fixed="--tune.max-tokens 256",
        most_views=2,
        joint_seconds=(0.5,),
        real="--recipe lora --generate.n-views 1 --generate.max-new-tokens 8",
        real_steps=1,
        n_real=2,
        real_longest=400,
        sets=(str(asked),),
        part_size=2,
        n_checkpoints=2,
        n_curve=2,
    )
    options = Options(
        out,
        folder,
        rules,
        folder / "checkpoints",
        out / "model",
        out / "model",
        out / "edition3.json",
        out / "board.json",
        HOURS,
        tiny,
    )
    return replace(options, **changes)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("rearc", type=Path, nargs="?")
    parser.add_argument("--kept", type=Path, default=None, help="folder with step-*/ema, for the curve")
    parser.add_argument("--real-model", type=Path, default=None, help="a pretrained model folder")
    parser.add_argument("--edition-2", type=Path, help="arc_kaggle/box at 7702edf, which commits up to ddd5874 read")
    parser.add_argument("--hours", nargs="*", default=[], metavar="STEP=H", help="in place of the limits of steps")
    parser.add_argument("--only", nargs="*", default=[], choices=list(STEPS), help="steps")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--toy", action="store_true", help="all of it at tiny sizes, into OUT alone")
    given = parser.parse_args(words)
    hours = {**HOURS, **{name: float(value) for name, _, value in (each.partition("=") for each in given.hours)}}
    if unknown := set(hours) - set(HOURS):
        parser.error(f"--hours: found {', '.join(sorted(unknown))}, expected some of {', '.join(HOURS)}")
    if given.toy:
        options = toy_options(given.out, hours=hours)
    else:
        if not (given.checkpoint and given.rearc and given.edition_2):
            parser.error("CHECKPOINT, REARC and --edition-2 are wanted")
        common = (given.kept, given.real_model, given.edition_2, given.result, BOARD, hours, Sizes())
        options = Options(given.out, given.checkpoint, given.rearc, *common)
    code = run(options, given.only)
    print(json.dumps({"result": str(options.result), "finished": not code}))
    return code


if __name__ == "__main__":
    sys.exit(main())
