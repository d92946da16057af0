"""`arc-kaggle fit`: which tasks fit a number of tokens, before anything is trained; and what an encoder costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from arc_kaggle.augmentation import Augmentation
from arc_kaggle.dataset import Tasks, load_tasks
from arc_kaggle.encoder import GridEncoder, parse_encoder
from arc_kaggle.errors import ConfigError
from arc_kaggle.fit import fit_query
from arc_kaggle.fit_report import FitReport, Length, TaskFit, spread
from arc_kaggle.grid import MAX_SIDE, N_COLOURS, Grid
from arc_kaggle.presets import find_preset
from arc_kaggle.prompt import Prompt, PromptFormat, query_prompt, with_answer
from arc_kaggle.task import Query, Task
from arc_kaggle.tokenizer_file import FileTokenizer, tokenizer_file
from arc_kaggle.tokens import Tokenizer

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
    max_tokens: int = 4096
    """Most tokens of a prompt, of a prompt with its answer, and of a training example."""
    prompt: str = "arc24"
    """Prompt preset: plain, arc24, arc24-no-system, architects, nvarc, or chat for the model's own chat template."""
    encoder: str = ""
    """Encoder spec; the preset's own where empty."""
    answer_tokens: int | Literal["auto"] = "auto"
    """Tokens of an answer and its end; `auto` for the known answer's, else those of the task's longest grid."""
    drop: Literal["last", "largest", "least_similar"] = "last"
    """Which train pair is left out first: the last, the one with most tokens, or the one whose input is least like the
    input that is asked for."""
    table: bool = False
    """Print what every encoder costs under this prompt format instead, as a Markdown table."""


def fit(config: FitConfig) -> FitReport:
    """Count tokens, and leave out pairs as inference and training would. Raises ConfigError, TaskError, PromptError."""
    n_answer = 1 if config.answer_tokens == "auto" else config.answer_tokens
    if config.max_tokens < 1 or n_answer < 1:
        raise ConfigError(f"found max_tokens {config.max_tokens}, answer_tokens {n_answer}, expected 1 or more of each")
    tokenizer = _open(config)
    preset = find_preset(config.prompt, tokenizer)
    encoder = parse_encoder(config.encoder or preset.encoder)
    sets = {name: load_tasks(name, config.select) for name in config.tasks}
    if config.table:
        return FitReport("", config.max_tokens, {}, encoder_table(sets, preset.format, tokenizer))
    ruler = Ruler(encoder, preset.format, tokenizer, config)
    title = f"{config.tokenizer}, prompt {config.prompt}, encoder {encoder.spec}, drop {config.drop}"
    measured = {name: tuple(ruler.measure(task) for task in tasks) for name, tasks in sets.items()}
    return FitReport(title, config.max_tokens, measured)


def _open(config: FitConfig) -> Any:
    if config.prompt != "chat":
        return FileTokenizer(config.tokenizer)
    from transformers import AutoTokenizer  # only it can render a chat template

    return AutoTokenizer.from_pretrained(tokenizer_file(config.tokenizer).parent, local_files_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class Ruler:
    """Measures tasks. A length is the most over test inputs, or over pairs held out, and over the task as it is and
    transposed: views do that to grids, and it changes how many rows there are. Turns and colours change no count.
    """

    encoder: GridEncoder
    fmt: PromptFormat
    tokenizer: Tokenizer
    config: FitConfig

    def measure(self, task: Task) -> TaskFit:
        views = [Augmentation().apply_task(task), Augmentation(symmetry=4).apply_task(task)]
        asked = [query for view in views for query in view.queries]
        held_out = [query for view in views for query in leave_one_out(view)]
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
        n_tokens = n_after + count(query_prompt(query, self.encoder, self.fmt), self.tokenizer)
        if n_tokens <= self.config.max_tokens:
            return Length(n_tokens, 0, True)
        left = self.config.max_tokens - n_after
        fitted = fit_query(query, self.encoder, self.fmt, self.tokenizer, left, self.config.drop)
        return Length(n_tokens, len(fitted.dropped), fitted.fits)

    def _expected(self, query: Query) -> int:
        answer_tokens = self.config.answer_tokens
        return self._longest_answer(query) if answer_tokens == "auto" else answer_tokens

    def _longest_answer(self, query: Query) -> int:
        """Tokens of the known answer, else of the longest grid of the task, and of its end."""
        pairs = (*query.task.train, *query.task.test)
        grids = [query.answer] if query.answer is not None else [g for pair in pairs for g in (pair.input, pair.output)]
        return max(answer_tokens(grid, self.encoder, self.fmt, self.tokenizer) for grid in grids if grid is not None)


def leave_one_out(task: Task) -> Iterator[Query]:
    """Every train pair as a query to the others."""
    for i in range(len(task.train) if len(task.train) > 1 else 0):
        others = (*task.train[:i], *task.train[i + 1 :])
        yield Query(Task(task.id, others, (task.train[i],)), 0)


def count(prompt: Prompt, tokenizer: Tokenizer) -> int:
    """Tokens of a prompt, span by span as in `tokenize`."""
    return sum(len(tokenizer.encode(span.text, add_special_tokens=False)) for span in prompt.spans)


def answer_tokens(answer: Grid, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer) -> int:
    """Tokens of an answer and its end."""
    return count(with_answer(Prompt(()), answer, encoder, fmt), tokenizer)


def encoder_table(sets: Mapping[str, Tasks], fmt: PromptFormat, tokenizer: Tokenizer) -> str:
    """Markdown: per encoder the tokens of a 30 x 30 answer, and of the prompts of all test inputs as they are given."""
    columns = [f"{name} {what}" for name in sets for what in ("median", "p90", "max")]
    lines = [f"| encoder | 30x30 | {' | '.join(columns)} |", "|---|" + "--:|" * (1 + len(columns))]
    rng = np.random.default_rng(0)
    largest = rng.integers(N_COLOURS, size=(MAX_SIDE, MAX_SIDE)).astype(np.int8)
    for encoder in map(parse_encoder, TABLE_ENCODERS):
        counts = [answer_tokens(largest, encoder, fmt, tokenizer)]
        for tasks in sets.values():
            prompts = (query_prompt(query, encoder, fmt) for task in tasks for query in task.queries)
            counts += spread([count(prompt, tokenizer) for prompt in prompts])[1:]
        spec = encoder.spec.replace("|", r"\|")
        lines.append(f"| `{spec}` | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)
