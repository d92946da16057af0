"""The table of a study: means with intervals that resample whole puzzles, paired differences, and what they show."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from arc_kaggle.answering.metrics import MEASURES, Score, mean_over_tasks
from arc_kaggle.evaluation.report import aligned
from arc_kaggle.evaluation.statistics import Paired
from arc_kaggle.evaluation.study.reading import Key, Values

NAMES = tuple(MEASURES)
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class StudyRow:
    """A row: the scores of every test input under every seed, and what a puzzle took."""

    name: str
    values: dict[Key, Values] = field(default_factory=dict)
    seconds: float | None = None
    """Of fine-tuning, answering and scoring one puzzle, mean; None where the row is a part of a run."""
    model: str = ""
    family: str = ""
    """Rows of one model and one family are alternatives to each other, such as its permutations of colours."""

    @property
    def n_tasks(self) -> int:
        return len({task_id for task_id, _, _ in self.values})

    def mean(self, measure: str) -> Score:
        """Of all test inputs and seeds."""
        return mean_over_tasks(by_task({key: values[measure] for key, values in self.values.items()}))

    def less(self, other: StudyRow, measure: str) -> Difference | None:
        """By how much the mean exceeds that of another row over what both have, paired; None where that is nothing."""
        common = sorted(self.values.keys() & other.values.keys())
        if not common:
            return None
        values = by_task({key: self.values[key][measure] - other.values[key][measure] for key in common})
        signs = [sum(differences) for differences in values]
        more, fewer = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
        return Difference(mean_over_tasks(values), Paired(len(values), 0, more, fewer))


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of two rows: its mean with a 95% interval, and by puzzles which row is ahead."""

    score: Score
    puzzles: Paired

    @property
    def shows(self) -> str:
        """`higher` or `lower` where the interval leaves out 0 and the exact sign test over puzzles agrees at 5%.

        The interval alone would see a difference in a handful of puzzles. Else `no evidence`, or `too few` puzzles.
        """
        if not self.puzzles.is_tested:
            return "too few"
        if self.score.low <= 0 <= self.score.high or self.puzzles.p_value >= SIGNIFICANT:
            return "no evidence"
        return "higher" if self.score.mean > 0 else "lower"


def by_task(values: Mapping[Key, float]) -> list[list[float]]:
    """The values of each puzzle together, for they stand or fall together."""
    found: dict[str, list[float]] = {}
    for (task_id, _, _), value in sorted(values.items()):
        found.setdefault(task_id, []).append(value)
    return list(found.values())


HEAD = ("row", "n", *NAMES, "voting", "s/puzzle")
Bases = Sequence[StudyRow | None]
"""For each row the one that it is compared with."""


def bases_of(rows: Sequence[StudyRow], is_last: bool = False) -> Bases:
    """The first (or last) row of the same model and family; for that row itself the one of the first (or last) model
    that has the family; None for a row that then is its own.
    """
    place, groups = -1 if is_last else 0, dict[tuple[str, str], list[StudyRow]]()
    for row in rows:
        groups.setdefault((row.model, row.family), []).append(row)
    of_family: dict[str, StudyRow] = {}
    for (_, family), group in [*groups.items()][:: -1 if is_last else 1]:
        of_family.setdefault(family, group[place])
    found = []
    for row in rows:
        base = groups[row.model, row.family][place]
        base = of_family[row.family] if base is row else base
        found.append(None if base is row else base)
    return found


def markdown(rows: Sequence[StudyRow], measure: str, bases: Bases | None = None) -> str:
    """The table in per cent; the last columns compare by the measure of the study."""
    head, *body = _lines(rows, measure, bases)
    lines = [head, ["---", *["--:"] * (len(HEAD) - 1), "---", "---"], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(rows: Sequence[StudyRow], measure: str, bases: Bases | None = None) -> str:
    """The same for a terminal."""
    return aligned(_lines(rows, measure, bases))


def _lines(rows: Sequence[StudyRow], measure: str, bases: Bases | None) -> list[list[str]]:
    """Head and body; where all are compared with one row the head names it, else each line does."""
    bases = bases_of(rows) if bases is None else bases
    names = {base.name for base in bases if base}
    head = [*HEAD, " ".join([f"{measure} against", *(names if len(names) == 1 else ())]), "shows"]
    return [
        head,
        *(
            [*_cells(row), *_compared(row, base, measure, len(names) > 1)]
            for row, base in zip(rows, bases, strict=True)
        ),
    ]


def _cells(row: StudyRow) -> list[str]:
    means = {name: row.mean(name).mean for name in NAMES}
    voting = f"{100 * means['vote_2'] / means['pass_n']:.0f}" if means["pass_n"] else "-"
    shares = [f"{100 * means[name]:.1f}" for name in NAMES]
    return [row.name, str(len(row.values)), *shares, voting, "-" if row.seconds is None else f"{row.seconds:.1f}"]


def _compared(row: StudyRow, base: StudyRow | None, measure: str, is_named: bool) -> list[str]:
    if base is None:
        return ["", ""]
    difference = row.less(base, measure)
    if difference is None:
        return ["-", "-"]
    low, mean, high = (100 * each for each in (difference.score.low, difference.score.mean, difference.score.high))
    name = f" {base.name}" if is_named else ""
    return [f"{mean:+.1f} ({low:+.1f}..{high:+.1f}){name}", difference.shows]


def as_csv(rows: Sequence[StudyRow], bases: Bases | None = None) -> str:
    """Every score with its 95% interval, and its paired difference from the row named in `against`, as shares 0..1."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = ("", "_low", "_high", "_less", "_less_low", "_less_high", "_shows")
    columns = [f"{name}{part}" for name in NAMES for part in parts]
    writer.writerow(["row", "n_puzzles", "n_outputs", "n_seeds", "seconds_a_puzzle", "against", *columns])
    for row, base in zip(rows, bases_of(rows) if bases is None else bases, strict=True):
        seeds = {seed for _, _, seed in row.values}
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        counts = [row.name, row.n_tasks, len(row.values), len(seeds), seconds, base.name if base else ""]
        writer.writerow([*counts, *(cell for name in NAMES for cell in _measured(row, base, name))])
    return file.getvalue()


def _measured(row: StudyRow, base: StudyRow | None, name: str) -> Iterator[str]:
    difference = None if base is None else row.less(base, name)
    for score in (row.mean(name), difference.score if difference else None):
        yield from ("", "", "") if score is None else (f"{each:.5f}" for each in (score.mean, score.low, score.high))
    yield difference.shows if difference else ""
