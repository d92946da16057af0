"""Scores, each with its definition. All are shares 0..1; `queries` are test inputs whose answer is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import comb
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import NEED_SCORES, Selection
from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.grid import Grid, same_grid
from arc_kaggle.tasks.task import Query, Task

PredictionsByTask = Mapping[str, Sequence[Prediction]]
ScoresByTask = Mapping[str, Sequence[CandidateScore]]
AttemptsByTask = Mapping[str, Sequence[Sequence[Grid]]]
Measure = Callable[[Query, Sequence[Prediction]], float]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over the queries of tasks, with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}% ({100 * self.low:.1f}..{100 * self.high:.1f})"


def kaggle_score(attempts: AttemptsByTask, tasks: Sequence[Task]) -> Score:
    """Kaggle's score: the share of test outputs for which one of the two attempts equals the answer in every cell."""
    return _mean_over_queries(tasks, lambda query: float(is_solved(query, attempts[query.task.id][query.index])))


def whole_tasks_score(attempts: AttemptsByTask, tasks: Sequence[Task]) -> Score:
    """The share of tasks of which every test output is solved."""
    return mean_over_tasks([[float(n_solved(task, attempts[task.id]) == len(task.test))] for task in tasks])


def n_solved(task: Task, attempts: Sequence[Sequence[Grid]]) -> int:
    """How many test outputs of a task are solved."""
    return sum(is_solved(query, attempts[query.index]) for query in task.queries)


def model_score(attempts: AttemptsByTask, predictions: PredictionsByTask, tasks: Sequence[Task]) -> Score:
    """The share of test outputs that the model solved: with a right attempt that one of its views gave."""

    def solved(query: Query) -> float:
        is_right = is_solved(query, attempts[query.task.id][query.index])
        return float(is_right and any(_equals(found, query) for found in predictions_of(query, predictions)))

    return _mean_over_queries(tasks, solved)


def is_solved(query: Query, attempts: Sequence[Grid]) -> bool:
    """Whether either attempt is the answer."""
    return any(same_grid(attempt, _answer(query)) for attempt in attempts)


def prediction_scores(predictions: PredictionsByTask, tasks: Sequence[Task]) -> dict[str, Score]:
    """Scores of single predictions and of the vote. Names and meanings follow arc24's, per query and then its mean.

    accuracy: predictions that equal the answer. correct_pixels: cells that are right, 0 where the size is wrong or
    there is no grid. correct_size: predictions of the right shape. unanswered: predictions without a grid.
    pass_n: queries with a right prediction among all. vote_1, vote_2: queries whose answer is ranked first, among the
    first two. random2: chance that two predictions drawn without replacement contain the answer.
    """
    return {
        name: _mean_over_queries(tasks, partial(_of_predictions, measure, predictions))
        for name, measure in MEASURES.items()
    }


def _of_predictions(measure: Measure, predictions: PredictionsByTask, query: Query) -> float:
    return measure(query, predictions_of(query, predictions))


def voting_accuracy(scores: Mapping[str, Score]) -> float | None:
    """vote_2 / pass_n: the share of queries with a right prediction that voting keeps; None where there are none."""
    return scores["vote_2"].mean / scores["pass_n"].mean if scores["pass_n"].mean else None


def unanswered_reasons(predictions: PredictionsByTask) -> Counter[str]:
    """How many predictions have no grid, by reason."""
    return Counter(p.reason for found in predictions.values() for p in found if p.reason is not None)


def answer_rank(
    query: Query, found: Sequence[Prediction], scores: Iterable[CandidateScore] = (), by: Selection = "votes"
) -> int | None:
    """The place of the answer among the ranked candidates, from 1; None where no prediction is right."""
    ranked = rank_candidates(found, scores, by)
    return next((i for i, c in enumerate(ranked, start=1) if same_grid(c.grid, _answer(query))), None)


def selection_scores(
    predictions: PredictionsByTask, scores: ScoresByTask, tasks: Sequence[Task]
) -> dict[Selection, tuple[Score, Score]]:
    """Shares of queries whose answer is ranked first, and among the first two, by every rule that the evidence allows.

    Ways that need scores are left out where no candidate has any, `verify` where none has a verdict,
    `pairwise` where no two were compared.
    """
    given = [score for task in tasks for score in scores.get(task.id, ())]
    lacking: set[Selection] = set() if given else {*NEED_SCORES}
    lacking |= set() if any(score.verdict is not None for score in given) else {"verify"}
    lacking |= set() if any(score.duels for score in given) else {"pairwise"}
    ways: list[Selection] = [way for way in get_args(Selection) if way not in lacking]
    return {way: first_and_second(way, predictions, scores, tasks) for way in ways}


def first_and_second(
    way: Selection, predictions: PredictionsByTask, scores: ScoresByTask, tasks: Sequence[Task]
) -> tuple[Score, Score]:
    """The shares of queries whose answer is ranked first, and among the first two, by one rule of selection."""

    def place(query: Query) -> int:
        of_query = [score for score in scores.get(query.task.id, ()) if score.query == query.index]
        ranked = rank_candidates(predictions_of(query, predictions), of_query, way)[:2]
        return next((i for i, c in enumerate(ranked, start=1) if same_grid(c.grid, _answer(query))), 3)

    places = {(query.task.id, query.index): place(query) for task in tasks for query in task.queries}

    def within(n: int) -> Score:
        return _mean_over_queries(tasks, lambda query: float(places[query.task.id, query.index] <= n))

    return within(1), within(2)


def predictions_of(query: Query, predictions: PredictionsByTask) -> list[Prediction]:
    return [p for p in predictions.get(query.task.id, ()) if p.query == query.index]


def _random2(query: Query, found: Sequence[Prediction]) -> float:
    wrong = sum(not _equals(p, query) for p in found)
    if len(found) < 2:
        return float(wrong < len(found))
    return 1 - comb(wrong, 2) / comb(len(found), 2)


def _answer(query: Query) -> Grid:
    if query.answer is None:
        raise TaskError(f"task {query.task.id}, query {query.index}: no solution is known, so it cannot be scored")
    return query.answer


def _equals(prediction: Prediction, query: Query) -> bool:
    return prediction.grid is not None and same_grid(prediction.grid, _answer(query))


def _right_cells(grid: Grid | None, answer: Grid) -> float:
    return float((grid == answer).mean()) if grid is not None and grid.shape == answer.shape else 0.0


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _mean_over_queries(tasks: Sequence[Task], of: Callable[[Query], float]) -> Score:
    """The mean over queries. The bootstrap resamples whole tasks, because the queries of a task are not independent."""
    return mean_over_tasks([[of(query) for query in task.queries] for task in tasks])


def mean_over_tasks(per_task: Sequence[Sequence[float]]) -> Score:
    """The mean of all values of some tasks; the bootstrap resamples whole tasks. Raises TaskError without any task."""
    if not per_task:
        raise TaskError("scoring: found no task, expected one or more")
    sums, counts = np.array([sum(v) for v in per_task]), np.array([len(v) for v in per_task])
    times_drawn = _resamples(len(sums))  # (resample, task)
    low, high = np.quantile((times_drawn @ sums) / (times_drawn @ counts), [0.025, 0.975])
    return Score(float(sums.sum() / counts.sum()), float(low), float(high))


@lru_cache(maxsize=1)
def _resamples(n_tasks: int, n_resamples: int = 2000) -> NDArray[np.float64]:
    """How often each task is drawn in each of the bootstrap's resamples, shape (resample, task)."""
    rng = np.random.default_rng(0)
    rows = (np.bincount(rng.integers(n_tasks, size=n_tasks), minlength=n_tasks) for _ in range(n_resamples))
    return np.stack([row.astype(np.float64) for row in rows])


MEASURES: dict[str, Measure] = {
    "accuracy": lambda query, found: _mean(_equals(p, query) for p in found),
    "correct_pixels": lambda query, found: _mean(_right_cells(p.grid, _answer(query)) for p in found),
    "correct_size": lambda query, found: _mean(
        p.grid is not None and p.grid.shape == _answer(query).shape for p in found
    ),
    "unanswered": lambda query, found: _mean(p.grid is None for p in found) if found else 1.0,
    "pass_n": lambda query, found: float(any(_equals(p, query) for p in found)),
    "vote_1": lambda query, found: float(answer_rank(query, found) == 1),
    "vote_2": lambda query, found: float(answer_rank(query, found) in (1, 2)),
    "random2": _random2,
}
"""The measures of one query, of which `prediction_scores` takes the mean over queries."""
