"""From finished runs to the rows of a table: every score of every puzzle, by row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from arc_kaggle.answering.candidates import Candidate, CandidateScore, Prediction
from arc_kaggle.answering.metrics import MEASURES, predictions_of
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import NEED_SCORES, Selection, ways_to_select
from arc_kaggle.drawing import SYMMETRIES
from arc_kaggle.evaluation.columns import view_counts
from arc_kaggle.evaluation.run_view import Evidence
from arc_kaggle.evaluation.study.catalogue import ReadingName
from arc_kaggle.tasks.augmentation import SAME_COLOURS, Augmentation
from arc_kaggle.tasks.grid import same_grid
from arc_kaggle.tasks.task import Query, Task

Values = Mapping[str, float]
"""The scores of one test input by name, 0..1."""
RANKED = ("vote_1", "vote_2")
Key = tuple[str, int, int]
"""Task id, test input, seed."""
SIZES = (16, 36, 100, 225, 900)
"""Upper ends of the classes of answers by size, in cells."""
SIZE_NAMES = tuple(f"{low + 1}..{high} cells" for low, high in zip((0, *SIZES), SIZES, strict=False))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one run holds of one test input."""

    query: Query
    predictions: Sequence[Prediction]
    scores: Sequence[CandidateScore]
    by: Selection
    n_views: int
    ways: Sequence[Selection] = get_args(Selection)
    """To select, that the run has evidence for."""


def values_of(query: Query, found: Sequence[Prediction], ranked: Sequence[Candidate]) -> Values:
    """All scores of one test input; the votes are those of a ranking."""
    values = {name: measure(query, found) for name, measure in MEASURES.items() if name not in RANKED}
    place = next((i for i, c in enumerate(ranked) if query.answer is not None and same_grid(c.grid, query.answer)), 2)
    return {**values, "vote_1": float(place < 1), "vote_2": float(place < 2)}


def read_runs(answers: Answers) -> Iterator[tuple[str, Values]]:
    """One row: the run as it is."""
    ranked = rank_candidates(answers.predictions, answers.scores, answers.by)
    yield "", values_of(answers.query, answers.predictions, ranked)


def read_views(answers: Answers) -> Iterator[tuple[str, Values]]:
    """A row for the first 1, 2, 4, ... views."""
    for n in view_counts(answers.n_views):
        found = [prediction for prediction in answers.predictions if prediction.view < n]
        yield f"{n}", values_of(answers.query, found, rank_candidates(found))


def read_ways(answers: Answers) -> Iterator[tuple[str, Values]]:
    """A row for every way to select that the run has evidence for; a single candidate needs none."""
    for way in answers.ways:
        ranked = rank_candidates(answers.predictions, answers.scores if way in NEED_SCORES else (), way)
        yield way, values_of(answers.query, answers.predictions, ranked)


def read_sizes(answers: Answers) -> Iterator[tuple[str, Values]]:
    """The row of the answer's size."""
    assert answers.query.answer is not None, "the puzzles of a study have answers"
    place = bisect_left(SIZES, answers.query.answer.size)
    for _, values in read_runs(answers):
        yield SIZE_NAMES[place], values


KINDS_OF_VIEWS: Mapping[str, Callable[[Augmentation], bool]] = {
    **{name: partial(lambda n, view: view.symmetry == n, n) for n, name in enumerate(SYMMETRIES)},
    "colours as given": lambda view: view.colours == SAME_COLOURS,
    "colours permuted, 0 kept": lambda view: view.colours[0] == 0 and view.colours != SAME_COLOURS,
    "colours permuted, 0 too": lambda view: view.colours[0] != 0,
    "order as given": lambda view: view.order is None or list(view.order) == sorted(view.order),
    "order permuted": lambda view: view.order is not None and list(view.order) != sorted(view.order),
}
"""By name, which views are of a kind. A view is of several kinds."""


def family_of(name: str) -> str:
    """The kinds of views that are alternatives to each other: `symmetry`, `colours` or `order`; empty for no kind."""
    if name not in KINDS_OF_VIEWS:
        return ""
    first = name.partition(" ")[0]
    return first if first in ("colours", "order") else "symmetry"


def read_kinds(answers: Answers) -> Iterator[tuple[str, Values]]:
    """A row for each kind of augmentation that this run has views of."""
    for name, is_kind in KINDS_OF_VIEWS.items():
        found = [prediction for prediction in answers.predictions if is_kind(prediction.augmentation)]
        if found:
            yield name, values_of(answers.query, found, rank_candidates(found))


READINGS: Mapping[ReadingName, Callable[[Answers], Iterator[tuple[str, Values]]]] = {
    "runs": read_runs,
    "views": read_views,
    "ways": read_ways,
    "sizes": read_sizes,
    "kinds": read_kinds,
}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What was asked of a run."""

    n_views: int
    ways: Sequence[Selection]
    """To select, that its options gather evidence for."""
    seed: int


def facts_of_run(config: Mapping[str, Any]) -> RunFacts:
    """By the options of a run as JSON."""
    rescore = config["rescore"]
    ways = ways_to_select(rescore["n_views"], rescore["verify"], rescore["pairs"])
    return RunFacts(config["generate"]["n_views"], ways, config["seed"])


def read_evidence_of(
    reading: ReadingName, tasks: Sequence[Task], evidence: Evidence, facts: RunFacts
) -> Iterator[tuple[str, Key, Values]]:
    """(row, test input, its scores) of one run."""
    for task in tasks:
        for query in task.queries:
            scores = [score for score in evidence.scores.get(task.id, ()) if score.query == query.index]
            found = predictions_of(query, evidence.predictions)
            answers = Answers(query, found, scores, evidence.by, facts.n_views, facts.ways)
            for name, values in READINGS[reading](answers):
                yield name, (task.id, query.index, facts.seed), values
