"""The results of an evaluation as values: which test outputs each checkpoint solved under each recipe."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from arc_kaggle.answering.candidates import Attempts, Prediction
from arc_kaggle.answering.metrics import PredictionsByTask, answer_rank, is_solved, predictions_of
from arc_kaggle.errors import ConfigError
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.tasks.task import Query, Task

Way = Literal["submitted", "two_attempts", "one_attempt", "one_view", "any_view"]


@dataclass(frozen=True, slots=True)
class Output:
    """In which ways one test output was solved: as it was submitted, and by the model's own answers alone."""

    task_id: str
    query: int
    submitted: bool
    """Either attempt is the answer: what Kaggle counts. Attempts may come from simple rules."""
    two_attempts: bool
    """One of the model's two best candidates is."""
    one_attempt: bool
    """Its best candidate is."""
    any_view: bool
    """Any of the views gave it (pass_n)."""
    by_views: tuple[bool, ...]
    """`two_attempts`, if only the first 1, 2, 4, ... views vote; the last is with all of them."""

    @property
    def one_view(self) -> bool:
        """What view 0, the task as it is, answers is right."""
        return self.by_views[0]


@dataclass(frozen=True, slots=True)
class Column:
    """One checkpoint under one recipe, over the tasks that are through."""

    checkpoint: str
    series: str
    """What the checkpoints of one training share."""
    recipe: str
    step: int | None
    """Optimizer steps of the checkpoint's training, where its card tells."""
    tokens: int | None
    """Tokens of the checkpoint's training, where its card tells."""
    views: tuple[int, ...]
    """The numbers of views that `by_views` of the outputs are for."""
    outputs: tuple[Output, ...]
    scores: Mapping[str, Any]
    """The scores of `solve`, by name."""
    unanswered: Mapping[str, int]
    """Views without a grid, by reason; `no prediction` where a worker was lost before it came to them."""
    tune_seconds: float
    """Test-time fine-tuning a task, mean."""
    infer_seconds: float
    """Inference a task, mean."""
    outcomes: Mapping[str, int]
    """Tasks by what came of their fine-tuning; `no answer` where the worker gave none."""

    @property
    def name(self) -> str:
        return f"{self.checkpoint}/{self.recipe}"

    @property
    def n_tasks(self) -> int:
        return len({output.task_id for output in self.outputs})

    def solved(self, way: Way) -> dict[Hashable, bool]:
        """Whether each test output was solved, by (task id, query)."""
        return {(output.task_id, output.query): getattr(output, way) for output in self.outputs}

    def solved_tasks(self, way: Way) -> dict[Hashable, bool]:
        """Whether all test outputs of a task were solved, by task id."""
        solved: dict[Hashable, bool] = {}
        for output in self.outputs:
            solved[output.task_id] = solved.get(output.task_id, True) and getattr(output, way)
        return solved

    def count(self, way: Way) -> int:
        """How many test outputs were solved."""
        return sum(self.solved(way).values())


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All columns of an evaluation, and which tasks they are of."""

    tasks: str
    select: str
    n_selected: int
    n_whole: int
    """Tasks of the set without `select`."""
    digests: Mapping[str, str]
    """A digest of each selected task, by its id."""
    columns: tuple[Column, ...]
    made_with: Mapping[str, Any]
    """Versions, machine and settings."""

    @property
    def is_complete(self) -> bool:
        return all(column.n_tasks == self.n_selected for column in self.columns)

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read evaluation.json; its columns bear the name of its folder. Raises ConfigError."""
        try:
            value = read_json_file(path)
            columns = tuple(map(_column_from_json, value["columns"]))
            where = f"{path.parent}:"
            named = [replace(c, checkpoint=where + c.checkpoint, series=where + c.series) for c in columns]
            return cls(**{name: value[name] for name in _PLAIN}, columns=tuple(named))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: {error!r}, expected an evaluation.json as `evaluate` writes it") from error

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in _PLAIN}, "columns": [asdict(c) for c in self.columns]}


_PLAIN = ("tasks", "select", "n_selected", "n_whole", "digests", "made_with")


def _column_from_json(value: Mapping[str, Any]) -> Column:
    outputs = tuple(map(_output_from_json, value["outputs"]))
    return Column(**{**value, "views": tuple(value["views"]), "outputs": outputs})


def _output_from_json(value: Mapping[str, Any]) -> Output:
    before = {"submitted": value["two_attempts"]}  # until rules took an attempt they solved next to nothing
    return Output(**{**before, **value, "by_views": tuple(value["by_views"])})


def view_counts(n_views: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to all views."""
    return tuple(sorted({n_views, *(2**i for i in range(n_views.bit_length()))} - {0}))


def judge(
    tasks: Sequence[Task],
    attempts: Mapping[str, Sequence[Attempts]],
    predictions: PredictionsByTask,
    n_views: int,
) -> tuple[Output, ...]:
    """Every test output of some tasks: what was submitted for it, what its views made of it, and fewer of them."""
    return tuple(
        _judge(query, attempts[task.id][query.index], predictions_of(query, predictions), n_views)
        for task in tasks
        for query in task.queries
    )


def _judge(query: Query, submitted: Attempts, found: Sequence[Prediction], n_views: int) -> Output:
    places = [answer_rank(query, [p for p in found if p.view < n]) for n in view_counts(n_views)]
    *_, place = places
    by_views = tuple(each in (1, 2) for each in places)
    by_model = by_views[-1], place == 1, place is not None
    return Output(query.task.id, query.index, is_solved(query, submitted), *by_model, by_views)
