"""A study from its options to its tables: models, puzzles, a plan with hours, runs in turns, rows, files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.evaluation.run_view import read_evidence
from arc_kaggle.evaluation.study.catalogue import Study, find_study
from arc_kaggle.evaluation.study.cells import TASKS_FILE, Cell, Cost, cost_of, evidence_of, make_cells, run_part
from arc_kaggle.evaluation.study.figure import draw_rows
from arc_kaggle.evaluation.study.load import Load
from arc_kaggle.evaluation.study.puzzles import study_tasks
from arc_kaggle.evaluation.study.reading import SIZE_NAMES, facts_of_run, family_of, read_evidence_of
from arc_kaggle.evaluation.study.table import StudyRow, as_csv, bases_of, markdown
from arc_kaggle.evaluation.study.trainings import PROBED_STEPS, Models, draw_training, probed_model, train_models
from arc_kaggle.run.messages import Start
from arc_kaggle.system.deadline import Clock, Deadline
from arc_kaggle.system.files import write_atomically, write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Task, task_to_json

PROGRESS_FILE = "progress.json"
"""In the folder of a study: turns that are through, of how many, and the hours of all calls together."""
Turn = tuple[int, int]
"""A seed and the number of a part: what all rows do before any goes on."""
N_PROBED = 2
"""Puzzles on which every row is tried first: of the lengths between the quarters."""


@dataclass(eq=False)
class StudyRun:
    """One call of a study: its cells, what they cost, and how far they are."""

    study: Study
    config: StudyConfig
    cells: Sequence[Cell]
    tasks: Sequence[Task]
    say: Callable[[str], None]
    start: Start | None = None
    costs: dict[Cell, Cost] = field(default_factory=dict)
    load: str = ""
    """What else the machine did during the probe."""

    def probe(self) -> None:
        """Try every cell of the first seed on a few puzzles; other seeds cost the same."""
        load = Load()
        in_order = sorted(self.tasks, key=prompt_length)
        few = [in_order[len(in_order) * k // (2 * N_PROBED)] for k in range(1, 2 * N_PROBED, 2)]
        distinct = list({task.id: task for task in few}.values())
        found: dict[tuple[str, str], Cost] = {}
        for cell in self.cells:
            if cell.seed == 0:
                part = cell.probe(distinct)
                found[cell.row, cell.title] = cell.probed_cost(part, run_part(part, self.start))
            self.costs[cell] = found[cell.row, cell.title]
        self.load = str(load)

    def plan(self) -> str:
        """What will be done, with its hours."""
        rows = list(dict.fromkeys(cell.row for cell in self.cells if cell.row))
        n_seeds, left = len({cell.seed for cell in self.cells}), self.seconds_left()
        limit = (
            ""
            if self.config.hours is None
            else f"; --hours {self.config.hours:g} ends it earlier" * (left > 3600 * self.config.hours)
        )
        lines = [
            f"{len(rows)} rows x {n_seeds} seeds x {len(self.tasks)} puzzles: about {left / 3600:.2f} h to go"
            f"{self.load}{limit}",
            *(
                f"  {cell.row or '(tuning)':<32}{self.costs[cell].a_puzzle:>7.1f} s a puzzle"
                for cell in self.cells
                if cell.seed == 0
            ),
        ]
        return "\n".join(lines)

    def turns(self) -> list[Turn]:
        """All turns, in order."""
        return [
            (seed, number)
            for seed in sorted({cell.seed for cell in self.cells})
            for number in range(-(-len(self.tasks) // self.cells[0].part_size))
        ]

    def of_turn(self, turn: Turn) -> list[Cell]:
        """The cells that have a part in a turn."""
        return [cell for cell in self.cells if cell.seed == turn[0]]

    def is_done(self, cell: Cell, turn: Turn) -> bool:
        """Whether a part is through. Raises ConfigError where it was done with other settings."""
        folder = cell.out / f"part-{turn[1]:03}" / "part.json"
        return folder.is_file() and cell.parts[turn[1]].seconds() is not None

    def n_tasks(self, cell: Cell, turn: Turn) -> int:
        """Puzzles of a part."""
        return min(cell.part_size, len(self.tasks) - turn[1] * cell.part_size)

    def seconds_left(self) -> float:
        """What the parts that are not through should take."""
        return sum(
            self.costs[cell].of(self.n_tasks(cell, turn))
            for turn in self.turns()
            for cell in self.of_turn(turn)
            if not self.is_done(cell, turn)
        )

    def run(self, until: Deadline, keep: Callable[[], None]) -> None:
        """Do what is not through, turn by turn; nothing begins that should not end by then. What was found is kept
        after each turn.
        """
        for turn in self.turns():
            left = [cell for cell in self.of_turn(turn) if not self.is_done(cell, turn)]
            expected = sum(self.costs[cell].of(self.n_tasks(cell, turn)) for cell in left)
            if expected > until.seconds_left:
                self.say(self.end_words(turn, expected, until.seconds_left))
                return
            for cell in left:
                part = cell.parts[turn[1]]
                seconds = run_part(part, self.start)
                self.costs[cell] = cost_of(part, seconds)
                name = cell.row or "(tuning)"
                self.say(f"seed {turn[0]}, part {turn[1]}: {name}, {len(part.tasks)} puzzles, {seconds:.0f} s")
            if left:
                keep()

    def end_words(self, turn: Turn, expected: float, left: float) -> str:
        """Why it ends before a turn, and what to do where no turn fits."""
        words = f"turn {turn}: {expected:.0f} s expected, {left:.0f} s left: it ends here"
        if any(self.is_through(each) for each in self.turns()):
            return words
        less = "fewer --n-tasks" if self.study.is_whole else "a smaller --part-size"
        return f"{words}; give --hours {expected / 3600 + 0.05:.1f} or more, or {less}"

    def is_through(self, turn: Turn) -> bool:
        """Whether every cell has done its part."""
        return all(self.is_done(cell, turn) for cell in self.of_turn(turn))

    def rows(self) -> list[StudyRow]:
        """The rows of all turns that every cell is through with."""
        rows: dict[str, StudyRow] = {}
        spent: dict[str, list[float]] = {}
        for turn in filter(self.is_through, self.turns()):
            for cell in (cell for cell in self.of_turn(turn) if cell.row):
                part = cell.parts[turn[1]]
                spent.setdefault(cell.row, []).append(cost_of(part, part.seconds() or 0.0).a_puzzle)
                facts = facts_of_run(config_to_json(part.config))
                for name, key, values in read_evidence_of(self.study.reads, part.tasks, evidence_of(part), facts):
                    full = " ".join(word for word in (cell.row if self._names_rows else "", name) if word)
                    row = StudyRow(full, model=cell.title, family=family_of(name))
                    rows.setdefault(full, row).values[key] = values
        if self.study.reads == "runs":
            return [replace(row, seconds=sum(spent[name]) / len(spent[name])) for name, row in rows.items()]
        return in_order(rows.values())

    @property
    def _names_rows(self) -> bool:
        """Whether the name of a run is part of a row's: not where all rows are of the same run."""
        return self.study.reads == "runs" or len({cell.row for cell in self.cells if cell.row}) > 1


def read_given(study: Study, config: StudyConfig) -> list[StudyRow]:
    """The rows of runs that are through. Raises ConfigError, SubmissionError."""
    if study.reads == "runs":
        raise ConfigError(f"study {config.name}: found --runs, expected none, for its rows are runs of their own")
    read = [(folder, config_of_run(folder)) for folder in config.runs]
    titles = titles_of([(run["model"], run["adapter"]) for _, run in read])
    rows: dict[str, StudyRow] = {}
    for (folder, run), title in zip(read, titles, strict=True):
        tasks = load_tasks(run["tasks"], run["select"])
        evidence = read_evidence(folder, tasks, run["select_by"])
        for name, key, values in read_evidence_of(study.reads, tasks, evidence, facts_of_run(run)):
            full = " ".join(word for word in (title, name) if word)
            row = rows.setdefault(full, StudyRow(full, model=title, family=family_of(name)))
            if key in row.values:
                raise ConfigError(
                    f"run {folder}: found puzzle {key[0]} under seed {key[2]}, which a run before it of the same model "
                    "holds as well; expected other puzzles, another seed or another model; name one of the two"
                )
            row.values[key] = values
    return in_order(rows.values())


def titles_of(models: Sequence[tuple[str, str | None]]) -> list[str]:
    """Short names of the models and adapters of runs, different for different ones; empty where all are the same."""
    distinct = list(dict.fromkeys(models))
    if len(distinct) == 1:
        return [""] * len(models)
    last = [Path(adapter or model).name for model, adapter in distinct]
    whole = [adapter or model for model, adapter in distinct]
    for short in (last, whole, [f"{model} with {adapter}" for model, adapter in distinct]):
        if len(set(short)) == len(distinct):
            break
    titles = dict(zip(distinct, short, strict=True))
    return [titles[model] for model in models]


def in_order(rows: Iterable[StudyRow]) -> list[StudyRow]:
    """Rows as they came, but for classes of sizes, the smallest first."""
    return sorted(rows, key=lambda row: next((i for i, name in enumerate(SIZE_NAMES) if row.name.endswith(name)), 0))


READ_OPTIONS = ("model", "adapter", "tasks", "select", "select_by", "generate", "rescore", "seed")


def config_of_run(folder: Path) -> dict[str, Any]:
    """The options of a run of `solve`. Raises ConfigError."""
    try:
        found: dict[str, Any] = read_json_file(folder / "config.json")
        return {name: found[name] for name in READ_OPTIONS}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"run {folder}: {error!r}, expected a folder that `arc-kaggle solve` wrote") from error


def find_models(config: StudyConfig) -> Models:
    """The models that are named, the same for every seed. Raises ModelError."""
    return {model.name: model for model in find_model_folders(config.models or (BOX_FOLDER,), config.base)}


def puzzles_of(config: StudyConfig) -> tuple[Task, ...]:
    """The puzzles, written into the folder once. Raises ConfigError where an earlier call had others."""
    path, about = config.folder / TASKS_FILE, config.folder / "puzzles.json"
    longest = config.longest or find_study(config.name, config.over).longest
    wanted = {"tasks": config.tasks, "n_tasks": config.n_tasks, "longest": longest}
    if path.is_file() and about.is_file():
        if (found := read_json_file(about)) != wanted:
            raise ConfigError(f"folder {config.folder}: found puzzles {found}, expected {wanted}; take another --out")
    else:
        tasks = study_tasks(config.tasks, config.n_tasks, longest)
        write_json(path, {task.id: task_to_json(task) for task in tasks})
        write_json(about, wanted)
    return load_tasks(path)


def run_study(
    config: StudyConfig,
    say: Callable[[str], None] = print,
    clock: Clock = time.monotonic,
    start: Start | None = None,
    study: Study | None = None,
) -> list[StudyRow]:
    """Probe, plan, run, and write table.csv, table.md and figure.svg; gives the rows.

    `start` begins workers in place of child processes, as for `solve`; `study` comes in place of the one that the
    config names, which may then be any name. Raises ArcKaggleError subclasses.
    """
    study = study or find_study(config.name, config.over)
    if study.models and config.models:
        raise ConfigError(f"study {config.name}: found --models, expected none, for it trains its own")
    until = Deadline.never() if config.hours is None else Deadline.after(3600 * config.hours, clock)
    make_folder(config.folder)
    if config.runs:
        rows = read_given(study, config)
        write_tables(config.folder, study, rows)
        write_progress(config.folder, is_through=True)
        return rows
    begun = clock()
    try:
        return run_cells(study, config, until, say, start)
    finally:
        if not config.plan:
            note_progress(config, (clock() - begun) / 3600)


def run_cells(
    study: Study, config: StudyConfig, until: Deadline, say: Callable[[str], None], start: Start | None
) -> list[StudyRow]:
    """Train what is to be trained, and judge. Raises ArcKaggleError subclasses."""
    rows: list[StudyRow] = []
    tasks = puzzles_of(config)
    models: dict[int, Models] = {}
    if not study.models:
        models = dict.fromkeys(range(config.seeds), find_models(config))
        return judge_rows(study, config, models, tasks, until, say, start)
    for seed in range(config.seeds):
        found = train_models(study, config, seed, until, say)
        if found is None:
            break
        models[seed] = found
        rows = judge_rows(study, config, models, tasks, until, say, start)
        draw_training(study, config, rows)
    if config.plan and not models:
        plan_with_probes(study, config, tasks, say, start)
    return rows


def plan_with_probes(
    study: Study, config: StudyConfig, tasks: Sequence[Task], say: Callable[[str], None], start: Start | None
) -> None:
    """Say what judging should take, by the models of the probe in place of those that are not trained yet."""
    planned = replace(config, seeds=1, out=config.folder / "probe" / "plan")
    make_folder(planned.folder)
    write_json(planned.folder / TASKS_FILE, {task.id: task_to_json(task) for task in tasks})
    models = {name: probed_model(config, name) for name in study.models}
    run = StudyRun(study, planned, list(make_cells(study, planned, {0: models}, tasks)), tasks, say, start)
    run.probe()
    say(f"judged as they were after {PROBED_STEPS} steps, each once a seed: {run.plan()}")


def judge_rows(
    study: Study,
    config: StudyConfig,
    models: Mapping[int, Models],
    tasks: Sequence[Task],
    until: Deadline,
    say: Callable[[str], None],
    start: Start | None,
) -> list[StudyRow]:
    """Probe and run the cells of some seeds, and write the tables; gives the rows. Raises ArcKaggleError subclasses."""
    cells = list(make_cells(study, config, models, tasks))
    for cell in cells:
        cell.config(cell.out)  # what no run takes is refused before any begins
    run = StudyRun(study, config, cells, tasks, say, start)
    run.probe()
    say(run.plan())
    if config.plan:
        return []

    def keep() -> None:
        if rows := run.rows():
            write_tables(config.folder, study, rows)
        n_through = sum(map(run.is_through, run.turns()))
        n_turns = config.seeds * len({number for _, number in run.turns()})
        write_progress(config.folder, turns_through=n_through, turns=n_turns, is_through=n_through == n_turns)

    keep()
    run.run(until, keep)
    return run.rows()


def make_folder(folder: Path) -> None:
    """Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder {folder}: cannot be written to ({error.strerror}); name another --out") from error


def write_tables(folder: Path, study: Study, rows: Sequence[StudyRow]) -> None:
    """table.csv, table.md and figure.svg."""
    bases = bases_of(rows, study.against_last)
    write_atomically(folder / "table.csv", as_csv(rows, bases))
    write_atomically(folder / "table.md", markdown(rows, study.measure, bases) + "\n")
    draw_rows(rows, study.question, folder / "figure.svg")


def write_progress(folder: Path, **facts: float) -> None:
    """Put facts into progress.json, beside those that it holds."""
    path = folder / PROGRESS_FILE
    known = read_json_file(path) if path.is_file() else {}
    write_json(path, {**known, **facts})


def note_progress(config: StudyConfig, hours: float) -> None:
    """Add the hours of a call to those of earlier calls."""
    path = config.folder / PROGRESS_FILE
    before = read_json_file(path).get("hours", 0.0) if path.is_file() else 0.0
    write_progress(config.folder, hours=round(before + hours, 4))
