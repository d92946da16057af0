"""The columns of an evaluation are compared in pairs, over the same test outputs and over the same whole tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.columns import Column, Evaluation, Way
from arc_kaggle.evaluation.statistics import Paired, paired

NO_TUNING = "none"
"""The recipe without test-time fine-tuning."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two columns, or two ways of one, over the tasks that both have; `subject` says what is compared."""

    subject: str
    first: str
    second: str
    outputs: Paired
    tasks: Paired
    """The same by whole tasks, which, unlike the outputs of one task, are independent of each other."""


def compare(subject: str, first: Column, second: Column, *ways: Way) -> Comparison:
    """Compare two columns by the ways in which they are to have solved an output; the model's two attempts
    where none is given.
    """
    a, b = ways or ("two_attempts", "two_attempts")
    names = (first.name, second.name) if first is not second else (f"{first.name} {a}", f"{second.name} {b}")
    outputs = paired(first.solved(a), second.solved(b))
    return Comparison(subject, *names, outputs, paired(first.solved_tasks(a), second.solved_tasks(b)))


def comparisons(columns: Sequence[Column]) -> list[Comparison]:
    """TTFT against none; all views against one; the last of a training against its others; the last of each."""
    tuned = [(a, b) for a in columns for b in columns if a.checkpoint == b.checkpoint and a.recipe != NO_TUNING]
    found = [compare("TTFT", a, b) for a, b in tuned if b.recipe == NO_TUNING]
    for column in columns:
        found.append(compare("AIRV", column, column, "two_attempts", "one_view"))
        found.append(compare("AIRV", column, column, "one_attempt", "one_view"))
    trainings = by_training(columns)
    found += [compare("checkpoint", training[-1], other) for training in trainings for other in training[:-1]]
    lasts = [training[-1] for training in trainings]
    return found + [compare("model", b, a) for a, b in combinations(lasts, 2) if a.recipe == b.recipe]


def by_training(columns: Sequence[Column]) -> list[list[Column]]:
    """The columns of one training and one recipe together, in their order."""
    groups: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        groups.setdefault((column.series, column.recipe), []).append(column)
    return list(groups.values())


def best_of(columns: Sequence[Column]) -> Column:
    """The column with the largest share of solved outputs, of equal ones the first."""
    return max(columns, key=lambda column: column.count("two_attempts") / max(1, len(column.outputs)))


def compare_evaluations(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Columns of later evaluations against those of earlier ones, recipe by recipe, or all where none is shared.

    Raises ConfigError where one task id stands for different tasks.
    """
    found = []
    for earlier, later in combinations(evaluations, 2):
        _check_same_tasks(earlier, later)
        pairs = [(b, a) for a in earlier.columns for b in later.columns]
        alike = [(b, a) for b, a in pairs if a.recipe == b.recipe]
        found += [compare("evaluation", b, a) for b, a in alike or pairs]
    return found


def _check_same_tasks(a: Evaluation, b: Evaluation) -> None:
    common = a.digests.keys() & b.digests.keys()
    if other := sorted(task_id for task_id in common if a.digests[task_id] != b.digests[task_id]):
        raise ConfigError(
            f"evaluations of {a.tasks} and of {b.tasks}: found {len(other)} tasks of equal id but other grids, the "
            f"first is {other[0]}; compare evaluations of the same set"
        )
    if not common:
        raise ConfigError(f"evaluations of {a.tasks} and of {b.tasks}: found no common task, expected the same set")
