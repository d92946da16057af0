"""The A of AIRV, augment: a task's views become requests, one prompt each, and how they are to be answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from arc_kaggle.augmentation import Augmentation, spread_augmentations
from arc_kaggle.encoder import GridEncoder, parse_encoder
from arc_kaggle.engines.base import Decoding, Search
from arc_kaggle.errors import ConfigError
from arc_kaggle.fit import Drop, fit_query
from arc_kaggle.grid import Grid
from arc_kaggle.prompt import PromptFormat
from arc_kaggle.task import Task
from arc_kaggle.tokens import TokenIds, Tokenizer, token_limit


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Batched inference over many views of every test input."""

    n_views: int = 16
    """Views of a task; every test input is answered under each."""
    n_pilots: int = 0
    """Views that are answered first, so that the others can take what they gave as drafts, as later ones of the task do
    then too; 0 for all at once. It pays where a step costs much and views agree; for the model in the box on a CPU it
    does not."""
    views_a_wave: int = 0
    """Views that are answered together after the pilots; all of them where 0."""
    stop_lead: int = 0
    """A query is answered under no further view once its leading candidate is so many views ahead of the next and the
    next wave begins; never where 0."""
    p_min: float = 0.0
    """Look for every completion with more than this probability; the decoding's one completion a view where 0."""
    max_nodes: int = 100_000
    """Most prefixes that a search looks at under a view."""
    decoding: Decoding = field(default_factory=Decoding)
    keep_background: float = 0.9
    """Chance that colour 0 stays itself in a view, 0..1."""
    max_new_tokens: int = 931
    """Most tokens of an answer; 931 hold a 30 x 30 grid and its end."""
    answer_headroom: float = 2.0
    """Most tokens of an answer as a multiple of the task's longest grid, so that a run-away answer is cut early."""
    max_prompt_tokens: int = 8192
    """Longest prompt in tokens; of a longer task train pairs are left out."""
    drop: Drop = "last"
    """Which train pair is left out first: the last, the one with most tokens, or the one whose input is least like the
    test input."""
    fallback_encoder: str = ""
    """A more compact encoder that the model can read too, for prompts of which not even one train pair fits; none
    where empty."""
    tokens_per_batch: int = 65536
    """Most key-value slots in a batch, prompts and answers together."""
    max_seconds: float = 600.0
    """Most seconds of inference a task."""

    def __post_init__(self) -> None:
        if self.fallback_encoder:
            parse_encoder(self.fallback_encoder)
        for name in ("n_pilots", "views_a_wave", "stop_lead"):
            if getattr(self, name) < 0:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected 0 or more")
        if self.p_min:
            if self.decoding != Decoding():
                raise ConfigError(f"option p_min: found {self.p_min} and {self.decoding}, expected one of both")
            Search(self.p_min, self.max_nodes)  # checks them


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
    """What this prompt is written with and its answer is read with, where that is not the model's own encoder."""

    @property
    def query_key(self) -> tuple[str, int]:
        return self.task_id, self.query


def make_requests(
    task: Task,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    config: GenerateConfig,
    rng: np.random.Generator,
    views: range | None = None,
) -> Iterator[Request]:
    """A request for every query of a task under each of `views`, all of the config's where not given.

    A view is the same whichever others are asked for, as long as `rng` comes in the same state.
    """
    visible = task.without_solution()
    fallback = parse_encoder(config.fallback_encoder) if config.fallback_encoder else None
    longest = min(config.max_prompt_tokens, token_limit(tokenizer))
    wanted = range(config.n_views) if views is None else views
    spread = spread_augmentations(wanted.stop, rng, len(task.train), config.keep_background)
    for view, augmentation in enumerate(spread):
        if view not in wanted:
            continue
        seen = augmentation.apply_task(visible)
        limit = answer_limit(seen, encoder, fmt, tokenizer, config)
        for query in seen.queries:
            fitted = fit_query(query, encoder, fmt, tokenizer, longest, config.drop, fallback)
            other = None if fitted.encoder == encoder else fitted.encoder
            ids, n_dropped = fitted.example.ids, len(fitted.dropped)
            asked = task.test[query.index].input
            yield Request(task.id, query.index, view, augmentation, ids, limit, n_dropped, asked, other)


def answer_limit(
    task: Task, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer, config: GenerateConfig
) -> int:
    """Most tokens of an answer: `answer_headroom` times the longest grid of the task, its end, at most the cap."""
    grids = [grid for pair in (*task.train, *task.test) for grid in (pair.input, pair.output) if grid is not None]
    longest = max(len(tokenizer.encode(encoder.encode(grid), add_special_tokens=False)) for grid in grids)
    end = len(tokenizer.encode(fmt.answer_end, add_special_tokens=False))
    return min(config.max_new_tokens, round(config.answer_headroom * longest) + end)
