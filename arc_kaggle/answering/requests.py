"""Augmentation (the A of AIRV): the views of a task become requests, one prompt for each of its test inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.tasks.augmentation import Augmentation, spread_augmentations
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.encoders import GridEncoder, parse_encoder
from arc_kaggle.text.fit_prompt import fit_query
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.tokens import TokenIds


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One prompt to complete: which query, through which view, and its token ids (T,)."""

    task_id: str
    query: int
    view: int
    augmentation: Augmentation
    ids: TokenIds
    max_new_tokens: int
    dropped_pairs: int
    asked: Grid
    """The test input, in the task's own orientation and colours."""
    fallback: GridEncoder | None = None
    """The encoder of this prompt and its answer, where that is not the model's own."""

    @property
    def query_key(self) -> tuple[str, int]:
        return self.task_id, self.query


def make_requests(
    task: Task, notation: Notation, config: GenerateConfig, rng: np.random.Generator, views: range | None = None
) -> Iterator[Request]:
    """A request for every query of a task under each of `views`, all of the config's where not given.

    A view is the same whichever others are asked for, as long as `rng` comes in the same state.
    """
    visible = task.without_solution()
    fallback = parse_encoder(config.fallback_encoder) if config.fallback_encoder else None
    longest = min(config.max_prompt_tokens, notation.token_limit)
    wanted = range(config.n_views) if views is None else views
    spread = spread_augmentations(wanted.stop, rng, len(task.train), config.keep_background)
    for view, augmentation in enumerate(spread):
        if view not in wanted:
            continue
        seen = augmentation.apply_task(visible)
        limit = answer_limit(seen, notation, config)
        for query in seen.queries:
            fitted = fit_query(query, notation, longest, config.drop, fallback)
            other = None if fitted.encoder == notation.encoder else fitted.encoder
            ids, n_dropped = fitted.example.ids, len(fitted.dropped)
            asked = task.test[query.index].input
            yield Request(task.id, query.index, view, augmentation, ids, limit, n_dropped, asked, other)


def answer_limit(task: Task, notation: Notation, config: GenerateConfig) -> int:
    """Most tokens of an answer: `answer_headroom` times the longest grid of the task, its end, at most the cap."""
    grids = [grid for pair in (*task.train, *task.test) for grid in (pair.input, pair.output) if grid is not None]
    longest = max(len(notation.ids(notation.encoder.encode(grid))) for grid in grids)
    end = len(notation.ids(notation.format.answer_end))
    return min(config.max_new_tokens, round(config.answer_headroom * longest) + end)
