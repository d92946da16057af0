"""The puzzles of a study: training-side rules that no training takes, and nothing that an evaluation set contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import TaskError
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.leaks import find_leaks_of
from arc_kaggle.tasks.selection import prompt_length
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.training.mixture import Mixture, SynthSource, keep_clean, load_mixture, unit_digest
from arc_kaggle.training.mixture import Rule as TrainingRule

HELD_OUT = "held-out"
SOURCES = ("arc1:training", "arc2:training", "synth:0.6")
MOST_PAIRS = 6
"""Pairs of a puzzle, the asked one among them."""
MOST_DRAWS = 20
"""Synthetic rules that are drawn for each that is wanted."""


def study_tasks(source: str, n: int, longest: int) -> tuple[Task, ...]:
    """At most `n` puzzles whose longest prompt has at most `longest` symbols, in an order that says nothing of them.

    Raises TaskError where none is left, or where an answer is not known.
    """
    found = _held_out(n, longest) if source == HELD_OUT else _clean(load_tasks(source))
    fitting = (task for task in found if prompt_length(task) <= longest)
    tasks = sorted(islice(fitting, n), key=lambda task: unit_digest(task.id))
    if not tasks:
        raise TaskError(
            f"tasks {source}: found none of at most {longest} symbols that no evaluation set contains, expected some; "
            "raise --longest, or name other --tasks"
        )
    if unknown := [task.id for task in tasks if not task.has_solution]:
        raise TaskError(f"tasks {source}: {len(unknown)} have no solution, the first is {unknown[0]}")
    return tuple(tasks)


def _clean(tasks: Iterable[Task]) -> Iterator[Task]:
    """The tasks of which no evaluation set has the id, or any pair."""
    finder = find_leaks_of(("arc1:evaluation", "arc2:evaluation"))
    for task in tasks:
        rule = TrainingRule(task.id, tuple(pair for pair in (*task.train, *task.test) if pair.output is not None))
        if not keep_clean([rule], finder)[1]:
            yield task


def _held_out(n: int, longest: int) -> Iterator[Task]:
    """Held-out rules of the public training sets, then synthetic ones; the last pair of each is asked."""
    seen = set()
    for source in _mixture().sources:
        if isinstance(source, SynthSource):
            rules: Iterable[TrainingRule] = map(source.rule, islice(count(), MOST_DRAWS * n))
        else:
            rules = source.held_out(n)
        for number, rule in enumerate(rules):
            name = f"synth-{number:04}" if isinstance(source, SynthSource) else rule.id
            if name not in seen and (task := as_puzzle(name, rule.pairs, longest)):
                seen.add(name)
                yield task


@cache
def _mixture() -> Mixture:
    """That of named sets, which do not change, without what leaks."""
    return load_mixture(TrainConfig(Path(), data=SOURCES, drop_leaks=True))


def as_puzzle(name: str, pairs: tuple[Pair, ...], longest: int) -> Task | None:
    """As many pairs as fit, three at least; the last of them is asked. None where they do not fit."""
    for n in range(min(len(pairs), MOST_PAIRS), 2, -1):
        task = Task(name, pairs[: n - 1], pairs[n - 1 : n])
        if prompt_length(task) <= longest:
            return task
    return None
