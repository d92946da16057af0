"""Validation on held-out rules: the loss, and how many puzzles are solved, greedily and in one view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.micro.network import MicroLM
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.integers import ceil_div, round_up
from arc_kaggle.tasks.grid import same_grid
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.tokens import Example
from arc_kaggle.training.examples import ExampleSource, choose_fitting
from arc_kaggle.training.mixture import Pairs, Rule, Source, unit_digest
from arc_kaggle.training.packing import Batch, Ids, one_a_row

MOST_EXAMPLES = 64
"""Most held-out rules of a source whose loss is computed, with one example each."""

Summed = tuple[float, int]
"""A sum of losses in nats, and the number of their labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Fixed examples and puzzles of the held-out rules of every source, by its name; they do not follow the seed."""

    examples: dict[str, list[Batch[Ids]]]
    puzzles: dict[str, list[Task]]
    config: GenerateConfig

    def measure(self, model: LoadedModel, prefix: str = "") -> dict[str, float | int | None]:
        """Loss in nats, None without examples, and puzzles solved; of all, and of each source where there are more."""
        model.network.eval()
        losses = {name: summed(model, batches) for name, batches in self.examples.items()}
        solved = self._solved(model)
        model.network.train()
        row: dict[str, float | int | None] = {"loss": mean_of(losses.values()), "solved": solved.total()}
        for name in losses if len(losses) > 1 else ():
            row |= {f"loss/{name}": mean_of([losses[name]]), f"solved/{name}": solved[name]}
        return {f"{prefix}validation_{key}": value for key, value in row.items()}

    @property
    def has_examples(self) -> bool:
        return any(self.examples.values())

    @property
    def n_puzzles(self) -> dict[str, int]:
        """The number of puzzles of each source."""
        return {name: len(tasks) for name, tasks in self.puzzles.items()}

    def _solved(self, model: LoadedModel) -> Counter[str]:
        """The number of solved puzzles of each source."""
        tasks = {task.id: (name, task) for name, tasks in self.puzzles.items() for task in tasks}
        rng = np.random.default_rng(0)  # of one view, the task as it is, nothing is drawn
        requests = [
            request for _, task in tasks.values() for request in make_requests(task, model.notation, self.config, rng)
        ]
        solved: Counter[str] = Counter()
        network: Any = model.network
        engine = MicroEngine(model) if isinstance(network, MicroLM) else HFEngine(model)
        interpreter = Interpreter(engine, model.notation)
        for found in predict(requests, interpreter, self.config, Deadline.never()):
            name, task = tasks[found.task_id]
            answer = task.test[0].output
            solved[name] += found.grid is not None and answer is not None and same_grid(found.grid, answer)
        return solved


def make_validation(source: ExampleSource, pad_id: int) -> Validation:
    """Make examples and puzzles of the held-out rules that fit `max_tokens`, equally many puzzles of every source."""
    config = source.config
    n_each = ceil_div(config.validation_puzzles, len(source.mixture.sources))
    fitting = {s.name: list(_fitting(s, source, max(n_each, MOST_EXAMPLES))) for s in source.mixture.sources}
    examples = {name: list(_batches(found[:MOST_EXAMPLES], source, pad_id)) for name, found in fitting.items()}
    puzzles = {
        name: [Task(f"{name}/{i}/{rule.id}", pairs[:-1], pairs[-1:]) for i, (rule, pairs) in enumerate(found[:n_each])]
        for name, found in fitting.items()
    }
    generate = GenerateConfig(n_views=1, max_prompt_tokens=config.max_tokens, answer_headroom=1.0)
    return Validation(examples, puzzles, generate)


def _fitting(origin: Source, source: ExampleSource, n: int) -> Iterator[tuple[Rule, Pairs]]:
    """The first `n` of twice as many held-out rules with three pairs or more that fit, and those pairs."""
    config = source.config
    found = 0
    for rule in origin.held_out(2 * n):
        chosen = choose_fitting(rule.lengths, source.symbols_within(config.max_tokens), config.max_pairs)
        if len(chosen) >= 3 and found < n:
            found += 1
            yield rule, tuple(rule.pairs[i] for i in chosen)


def _batches(rules: Iterable[tuple[Rule, Pairs]], source: ExampleSource, pad_id: int) -> Iterator[Batch[Ids]]:
    """Make one example of each rule, in batches of four of similar lengths."""
    examples: list[Example] = []
    for rule, pairs in rules:
        rng = np.random.default_rng(int(unit_digest(rule.id) * 2**32))
        if example := source.example(pairs, rng, source.config.max_tokens):
            examples.append(example)
    yield from in_batches(examples, source.config.bucket, pad_id)


def in_batches(examples: Sequence[Example], bucket: int, pad_id: int) -> Iterator[Batch[Ids]]:
    """Batch examples in fours of similar lengths."""
    ordered = sorted(examples, key=lambda example: len(example.ids))
    for first in range(0, len(ordered), 4):
        group = ordered[first : first + 4]
        yield one_a_row(group, round_up(len(group[-1].ids), bucket), pad_id)


@torch.no_grad()
def summed(model: LoadedModel, batches: Sequence[Batch[Ids]]) -> Summed:
    """Sum the loss of all labels of some batches."""
    sums = [
        summed_loss(model, *(torch.from_numpy(array).to(model.device) for array in (batch.ids, batch.labels)))
        for batch in batches
    ]
    return sum(total.item() for total, _ in sums), sum(n_labels for _, n_labels in sums)


def mean_of(sums: Iterable[Summed]) -> float | None:
    """The mean loss in nats a label; None without labels."""
    totals, counts = zip(*sums, strict=True)
    return sum(totals) / sum(counts) if sum(counts) else None
