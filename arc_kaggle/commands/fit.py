"""Command `fit`: it counts the tokens of tasks, and tells which of them fit a context length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arc_kaggle.config.options import Count, check_ranges
from arc_kaggle.system.integers import ceil_div
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.conversions import leave_one_out
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.tasks.entries import skipping
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS
from arc_kaggle.tasks.task import Query, Task
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.text.fit_prompt import fit_query
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import find_preset
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokenizer_file import FileTokenizer, tokenizer_file

TABLE_ENCODERS = (
    *("minimal", "separated", "repeat(3)", "colours", "replace+minimal", "rows+minimal", "block+minimal"),
    *("shape+minimal", "shape+rows+minimal"),
)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """List which tasks fit a number of tokens, which need train pairs left out, and which can never fit."""

    tokenizer: Path
    """Model folder or tokenizer.json file."""
    tasks: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    """Task sets or files, as for `solve`."""
    select: str = ""
    """Which tasks of each, as for `solve`."""
    skip_bad: bool = False
    """Leave out tasks and files that cannot be read, with a line each."""
    max_tokens: Count = 4096
    """Most tokens of a prompt, of a prompt with its answer, and of a training example."""
    prompt: str = "arc24"
    """The prompt format: plain, arc24, arc24-no-system, architects, nvarc, or chat or chat-no-system for the
    tokenizer's own chat template."""
    encoder: str = ""
    """How grids are written as text; the way that belongs to --prompt where it is empty."""
    answer_tokens: Count | Literal["auto"] = "auto"
    """Tokens of an answer and its end; auto takes those of the known answer, or else of the task's longest grid."""
    drop: Literal["last", "largest", "least_similar"] = "last"
    """Which train pair is left out first: the last, the largest in tokens, or the one whose input is least similar to
    the test input."""
    table: bool = False
    """Print what every encoder costs under this prompt format instead, as a Markdown table."""

    def __post_init__(self) -> None:
        check_ranges(self)


def run(config: FitConfig) -> int:
    """Print the lengths, or the table of encoders."""
    print(fit(config).text)
    return 0


def fit(config: FitConfig) -> FitReport:
    """Count tokens, and leave out pairs as inference and training would. Raises ConfigError, TaskError, PromptError."""
    tokenizer = _open(config)
    preset = find_preset(config.prompt, tokenizer)
    notation = replace(preset, encoder=config.encoder or preset.encoder).notation(tokenizer)
    sets = {name: load_tasks(name, config.select, skipping(config.skip_bad)) for name in config.tasks}
    if config.table:
        return FitReport("", config.max_tokens, {}, encoder_table(sets, notation))
    ruler = Ruler(notation, config)
    title = f"{config.tokenizer}, prompt {config.prompt}, encoder {notation.encoder.spec}, drop {config.drop}"
    measured = {name: tuple(ruler.measure(task) for task in tasks) for name, tasks in sets.items()}
    return FitReport(title, config.max_tokens, measured)


def _open(config: FitConfig) -> Any:
    if not config.prompt.startswith("chat"):
        return FileTokenizer(config.tokenizer)
    from arc_kaggle.models.loading import load_tokenizer  # transformers alone can render a chat template

    return load_tokenizer(tokenizer_file(config.tokenizer).parent)


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """Measures tasks. A length is the most over test inputs, or over pairs held out, and over the task as it is and
    transposed: views do that to grids, and it changes how many rows there are. Turns and colours change no count.
    """

    notation: Notation
    config: FitConfig

    def measure(self, task: Task) -> TaskFit:
        views = [Augmentation().apply_task(task), Augmentation(symmetry=4).apply_task(task)]
        asked = [query for view in views for query in view.queries]
        held_out = [Query(part, 0) for view in views for part in leave_one_out(view)]
        cases = {
            "prompt": [(query, 0) for query in asked],
            "prompt + answer": [(query, self._expected(query)) for query in asked],
            "leave-one-out": [(query, self._longest_answer(query)) for query in held_out],
        }
        return TaskFit(task.id, len(task.train), {name: self._longest(found) for name, found in cases.items() if found})

    def _longest(self, cases: list[tuple[Query, int]]) -> Length:
        lengths = [self._length(query, n_after) for query, n_after in cases]
        n_dropped = max(length.n_dropped for length in lengths)
        return Length(max(length.tokens for length in lengths), n_dropped, all(length.fits for length in lengths))

    def _length(self, query: Query, n_after: int) -> Length:
        """Of a prompt that `n_after` more tokens follow."""
        n_tokens = n_after + self.notation.n_tokens(query_prompt(query, self.notation))
        if n_tokens <= self.config.max_tokens:
            return Length(n_tokens, 0, True)
        left = self.config.max_tokens - n_after
        fitted = fit_query(query, self.notation, left, self.config.drop)
        return Length(n_tokens, len(fitted.dropped), fitted.fits)

    def _expected(self, query: Query) -> int:
        answer_tokens = self.config.answer_tokens
        return self._longest_answer(query) if answer_tokens == "auto" else answer_tokens

    def _longest_answer(self, query: Query) -> int:
        """Tokens of the known answer, else of the longest grid of the task, and of its end."""
        pairs = (*query.task.train, *query.task.test)
        grids = [query.answer] if query.answer is not None else [g for pair in pairs for g in (pair.input, pair.output)]
        return max(len(self.notation.completion_ids(grid)) for grid in grids if grid is not None)


def encoder_table(sets: Mapping[str, Tasks], notation: Notation) -> str:
    """Markdown: per encoder the tokens of a 30 x 30 answer, and of the prompts of all test inputs as they are given."""
    columns = [f"{name} {what}" for name in sets for what in ("median", "p90", "max")]
    lines = [f"| encoder | 30x30 | {' | '.join(columns)} |", "|---|" + "--:|" * (1 + len(columns))]
    rng = np.random.default_rng(0)
    largest = rng.integers(N_COLOURS, size=(MAX_SIDE, MAX_SIDE)).astype(np.int8)
    for written in (notation.in_encoder(parse_encoder(spec)) for spec in TABLE_ENCODERS):
        counts = [len(written.completion_ids(largest))]
        for tasks in sets.values():
            prompts = (query_prompt(query, written) for task in tasks for query in task.queries)
            counts += spread([written.n_tokens(prompt) for prompt in prompts])[1:]
        spec = written.encoder.spec.replace("|", r"\|")
        lines.append(f"| `{spec}` | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


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
        bars = [f"  {n:>4} {'#' * ceil_div(n * BAR, most):<{BAR}}" for n in numbers]
        yield f"{f'{i * step}..{(i + 1) * step - 1}':<16}{''.join(bars)}".rstrip()


def _task_line(task: TaskFit) -> str:
    cells = [str(task.lengths.get(name, "-")) for name in LENGTHS]
    return f"{task.task_id:<16}{task.n_train:>6}" + "".join(f"{cell:>20}" for cell in cells)
