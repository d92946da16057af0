"""The method on one screen: tune on a task, answer its views, score the candidates. The vote is the caller's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.answering.own_errors import own_errors
from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.answering.rescore import rescore
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.engines.base import Engine
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.outcome import NOT_ASKED_FOR, TuneReport

if TYPE_CHECKING:
    from arc_kaggle.tuning.tuner import Tuner
from arc_kaggle.tasks.augmentation import task_rng


@dataclass(frozen=True, slots=True)
class Method:
    """What a run needs, loaded once per process. Without a tuner the base model answers."""

    engine: Engine
    tuner: Tuner | None
    notation: Notation

    @property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.engine, self.notation)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """What answering a task came to."""

    reasons: Counter[str]
    """How many predictions were `answered`, and how many had no grid, by reason."""
    dropped_pairs: int
    """Train pairs left out of the longest prompt."""


Keep = Callable[[Prediction], None]


def tune_task(task: Task, method: Method, config: SolveConfig, deadline: Deadline, level: int = 0) -> TuneReport:
    """Fine-tune on the task's own train pairs; where that goes wrong the model is the untouched base.

    `level` is where to begin among the levels of `config.gentleness`.
    """
    if method.tuner is None:
        return TuneReport(False, NOT_ASKED_FOR)
    if len(task.train) < 2:
        method.tuner.reset()
        return TuneReport(False, "one train pair, fine-tuning needs two")
    from arc_kaggle.tuning.examples import tuning_examples  # torch, which a run without a tuner never needs
    from arc_kaggle.tuning.tuner import tune_within_memory

    started = time.monotonic()
    errors = (
        own_errors(task, method.interpreter, config.generate, config.seed, deadline) if config.tune.pair_share else {}
    )
    rng = task_rng(task, config.seed, "tune")
    seed = int(rng.integers(2**31))

    def make_examples(tune: TuneConfig) -> Iterator[Example]:
        return tuning_examples(task, method.notation, tune, deepcopy(rng), errors)

    report = tune_within_memory(method.tuner, make_examples, config.tune, seed, deadline, level)
    return replace(report, seconds=time.monotonic() - started)


def answer_views(
    tasks: Sequence[Task],
    views: range,
    method: Method,
    config: SolveConfig,
    deadline: Deadline,
    keep: Keep,
    known: Sequence[Prediction] = (),
) -> dict[str, AnswerCounts]:
    """Answer every query of tasks under some of their views, in as few batches as memory allows.

    Every prediction is handed to `keep` as it comes. What is `known` of other views saves time and changes nothing.
    """
    requests = [
        request
        for task in tasks
        for request in make_requests(
            task, method.notation, config.generate, task_rng(task, config.seed, "views"), views
        )
    ]
    answered = {task.id: AnswerCounts(Counter(), 0) for task in tasks}
    for request in requests:
        answered[request.task_id] = AnswerCounts(Counter(), request.dropped_pairs)
    until = deadline.earlier(config.generate.max_seconds * len(tasks))
    for prediction in predict(requests, method.interpreter, config.generate, until, known):
        keep(prediction)
        answered[prediction.task_id].reasons[prediction.outcome] += 1
    return answered


def score_task(
    task: Task, predictions: Sequence[Prediction], method: Method, config: SolveConfig, deadline: Deadline
) -> Iterator[CandidateScore]:
    """How likely the views that were answered first make each candidate; nothing where that is not asked for."""
    rng = task_rng(task, config.seed, "views")
    return rescore(task, predictions, method.interpreter, config.generate, config.rescore, rng, deadline)
