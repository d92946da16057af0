"""The cells of a study: a row with one model and one seed each, cut into parts that all rows do in turns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from arc_kaggle.config.command_line import config_of_words
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.evaluation.model_folders import ModelFolder
from arc_kaggle.evaluation.parts import Part, cut
from arc_kaggle.evaluation.run_view import Evidence, read_evidence
from arc_kaggle.evaluation.study.catalogue import Study, given_words
from arc_kaggle.run.messages import Start
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import safe_name
from arc_kaggle.tasks.task import Task

TASKS_FILE = "tasks.json"
"""The puzzles of a study, in its folder."""
TUNING = "--quick-views 1 --first-views 1 --generate.n-views 1"
"""Options of the run that only tunes, for studies whose rows share their tuned weights."""


PROBED_JOINT_MINUTES = 0.2
"""Of a joint stage in a probe: it takes its minutes whatever the puzzles are."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A row with one model and one seed. `row` is empty for the run that only tunes for the others."""

    row: str
    name: str
    """Of the row, whatever the models are."""
    title: str
    """Of the model, which has a folder of its own for every seed where the study trains it."""
    model: ModelFolder
    seed: int
    words: tuple[str, ...]
    folder: Path
    tasks: tuple[Task, ...]
    part_size: int
    tuned: Path | None = None
    """Where tuned weights are, of a run that only tunes or of one that takes them from there."""

    @cached_property
    def options(self) -> SolveConfig:
        """Those of `solve`, which take a tenth of a second to parse. Raises ConfigError."""
        model, adapter = (self.model.base, self.model.folder) if self.model.base else (self.model.folder, None)
        words = ["--tasks", str(self.folder / TASKS_FILE), "--out", str(self.out), "--model", str(model)]
        words += ["--adapter", str(adapter)] if adapter else []
        return config_of_words(SolveConfig, [*words, "--seed", str(self.seed), *self.words])

    def config(self, out: Path, tuned: Path | None = None) -> SolveConfig:
        """The options of a run into a folder, without tuned weights where none are named. Raises ConfigError."""
        config = replace(self.options, out=out)
        if tuned is None:
            return config
        return replace(config, adapters=tuned) if self.row else replace(config, keep_adapters=tuned)

    @property
    def out(self) -> Path:
        """The folder of its runs."""
        return self.folder / "runs" / safe_name(f"{self.name} {self.title}".strip()) / f"seed-{self.seed}"

    @cached_property
    def parts(self) -> list[Part]:
        """Its runs, each of some of the puzzles. Tuned weights have to be there by then."""
        return list(cut(self.tasks, self.part_size, self.model, self.config(self.out, self.tuned)))

    def probe(self, tasks: Sequence[Task]) -> Part:
        """A run of a few puzzles, to see how long it takes."""
        tuned = self.tuned and self.folder / "probe" / "tuned"
        config = self.config(self.folder / "probe" / self.out.relative_to(self.folder), tuned)
        config = replace(config, joint_minutes=min(config.joint_minutes, PROBED_JOINT_MINUTES))
        return next(cut(tasks, len(tasks), self.model, config))

    def probed_cost(self, part: Part, seconds: float) -> Cost:
        """What its runs cost by a probe that took so many seconds, with all minutes of a joint stage."""
        cost = cost_of(part, seconds)
        more = 60 * (self.config(self.out).joint_minutes - part.config.joint_minutes)
        return replace(cost, beside=cost.beside + more)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took: seconds a puzzle in its workers, and seconds beside that, such as loading the model."""

    a_puzzle: float
    beside: float

    def of(self, n_tasks: int) -> float:
        """Seconds of a run of so many puzzles."""
        return self.beside + n_tasks * self.a_puzzle


def cost_of(part: Part, seconds: float) -> Cost:
    """The cost of a part that is through in so many seconds. With several workers puzzles count by their share."""
    n_workers = max(1, len({stage["worker"] for stage in stages_of(part)}))
    busy = sum(stage["outcome"]["seconds"] for stage in stages_of(part)) / n_workers
    return Cost(busy / len(part.tasks), max(0.0, seconds - busy))


def stages_of(part: Part) -> list[dict[str, Any]]:
    """The stages of all puzzles, as the report of the run tells them."""
    reports = read_json_file(part.config.out / "report.json")["reports"]
    return [stage for report in reports for stage in report["stages"]]


def run_part(part: Part, start: Start | None = None) -> float:
    """Do a part if it is not through; gives the seconds that it took, now or earlier."""
    seconds = part.seconds()
    return part.run(start) if seconds is None else seconds


def evidence_of(part: Part) -> Evidence:
    """What a part that is through holds of its puzzles."""
    return read_evidence(part.config.out, part.tasks, part.config.select_by)


def make_cells(
    study: Study, config: StudyConfig, models: Mapping[int, Mapping[str, ModelFolder]], tasks: Sequence[Task]
) -> Iterator[Cell]:
    """All cells, seed by seed; `models` are those of each seed by title. A cell that only tunes comes before those
    that answer with its weights. Raises ConfigError.
    """
    size = len(tasks) if study.is_whole else config.part_size
    shared = [*shlex.split(study.fixed), *given_words(config.set, "set")]
    for seed in range(config.seeds):
        for title, model in models[seed].items():
            tuned = config.folder / "tuned" / safe_name(title) / f"seed-{seed}" if study.tunes_once else None
            common = (config.folder, tuple(tasks), size, tuned)
            if tuned:
                yield Cell("", "tuning", title, model, seed, (*shared, *shlex.split(TUNING)), *common)
            for name, words in study.rows.items():
                yield Cell(
                    row_name(name, title, len(models[seed])),
                    name,
                    title,
                    model,
                    seed,
                    (*shared, *shlex.split(words)),
                    *common,
                )


def row_name(name: str, title: str, n_models: int) -> str:
    """The name of a row; the model's comes before it where there are several."""
    parts = [title if n_models > 1 else "", name]
    return " ".join(part for part in parts if part) or title
