"""What `arc-kaggle fit` found, as values and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LENGTHS = ("prompt", "prompt + answer", "leave-one-out")
BAR = 16
"""Characters of the longest bar."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens with all train pairs, how many pairs must be left out for it to fit, and whether it can fit at all."""

    tokens: int
    n_dropped: int
    fits: bool

    def __str__(self) -> str:
        return f"{self.tokens} {'never' if not self.fits else f'drop {self.n_dropped}' if self.n_dropped else 'fits'}"


@dataclass(frozen=True, slots=True)
class TaskFit:
    """A task's lengths by name; `leave-one-out` is missing where it has only one train pair."""

    task_id: str
    n_train: int
    lengths: dict[str, Length]

    @property
    def fits(self) -> bool:
        """Whether every length fits with all pairs."""
        return all(length.fits and not length.n_dropped for length in self.lengths.values())


@dataclass(frozen=True, slots=True)
class FitReport:
    """The lengths of all tasks by task set, or the table of encoders."""

    title: str
    max_tokens: int
    sets: dict[str, tuple[TaskFit, ...]]
    table: str = ""

    @property
    def text(self) -> str:
        sections = [_section(name, found, self.max_tokens) for name, found in self.sets.items()]
        return self.table or "\n\n".join([self.title, *sections])


def spread(values: Sequence[int]) -> list[int]:
    """Minimum, median, p90 and maximum."""
    return [round(float(value)) for value in np.quantile(values, [0, 0.5, 0.9, 1])]


def _section(name: str, tasks: Sequence[TaskFit], max_tokens: int) -> str:
    """Counts, a histogram, and the tasks that do not fit with all pairs."""
    of_length = {length: [task.lengths[length] for task in tasks if length in task.lengths] for length in LENGTHS}
    found = {length: lengths for length, lengths in of_length.items() if lengths}
    over = [task for task in tasks if not task.fits]
    lines = [
        f"{name}: {len(tasks)} tasks, {len(tasks) - len(over)} fit {max_tokens} tokens with all pairs in every length"
    ]
    lines += [*_summary(found), "", *_histogram(found, max_tokens), ""]
    head = [f"{'does not fit':<16}{'pairs':>6}" + "".join(f"{length:>20}" for length in LENGTHS)] if over else []
    return "\n".join([*lines, *head, *map(_task_line, over)])


def _summary(found: Mapping[str, Sequence[Length]]) -> Iterator[str]:
    yield f"{'tokens':<16}" + "".join(f"{head:>8}" for head in ("min", "median", "p90", "max", "fit", "drop", "never"))
    for name, lengths in found.items():
        never = sum(not length.fits for length in lengths)
        drop = sum(length.fits and length.n_dropped > 0 for length in lengths)
        numbers = [*spread([length.tokens for length in lengths]), len(lengths) - never - drop, drop, never]
        yield f"{name:<16}" + "".join(f"{number:>8}" for number in numbers)


def _histogram(found: Mapping[str, Sequence[Length]], max_tokens: int) -> Iterator[str]:
    """Tasks by tokens; a bin is a quarter of what fits."""
    step = max(1, max_tokens // 4)
    bins = {name: np.bincount([length.tokens // step for length in lengths]) for name, lengths in found.items()}
    n_bins, most = max(map(len, bins.values())), max(int(counts.max()) for counts in bins.values())
    yield f"{'tasks by tokens':<16}" + "".join(f"  {name:<{BAR + 5}}" for name in bins)
    for i in range(n_bins):
        numbers = [int(counts[i]) if i < len(counts) else 0 for counts in bins.values()]
        bars = [f"  {n:>4} {'#' * -(-n * BAR // most):<{BAR}}" for n in numbers]
        yield f"{f'{i * step}..{(i + 1) * step - 1}':<16}{''.join(bars)}".rstrip()


def _task_line(task: TaskFit) -> str:
    cells = [str(task.lengths.get(name, "-")) for name in LENGTHS]
    return f"{task.task_id:<16}{task.n_train:>6}" + "".join(f"{cell:>20}" for cell in cells)
