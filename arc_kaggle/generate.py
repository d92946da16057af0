"""AIRV without its vote: augment, infer, reverse. Views become prompts, completions become predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.augmentation import Augmentation, spread_augmentations
from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import Prediction
from arc_kaggle.encoder import GridEncoder, parse_encoder
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.errors import DecodeError
from arc_kaggle.fit import Drop, fit_query
from arc_kaggle.prompt import PromptFormat, answer_text
from arc_kaggle.task import Task
from arc_kaggle.tokens import TokenIds, Tokenizer, token_limit


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """Batched greedy inference over many views of every test input."""

    n_views: int = 16
    """Views of a task; every test input is answered once under each."""
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
    fallback: GridEncoder | None = None
    """What this prompt is written with and its answer is read with, where that is not the model's own encoder."""


def make_requests(
    task: Task,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    config: GenerateConfig,
    rng: np.random.Generator,
) -> Iterator[Request]:
    """A request for every view of every query of a task."""
    visible = task.without_solution()
    fallback = parse_encoder(config.fallback_encoder) if config.fallback_encoder else None
    longest = min(config.max_prompt_tokens, token_limit(tokenizer))
    spread = spread_augmentations(config.n_views, rng, len(task.train), config.keep_background)
    for view, augmentation in enumerate(spread):
        seen = augmentation.apply_task(visible)
        limit = answer_limit(seen, encoder, fmt, tokenizer, config)
        for query in seen.queries:
            fitted = fit_query(query, encoder, fmt, tokenizer, longest, config.drop, fallback)
            other = None if fitted.encoder == encoder else fitted.encoder
            ids, n_dropped = fitted.example.ids, len(fitted.dropped)
            yield Request(task.id, query.index, view, augmentation, ids, limit, n_dropped, other)


def answer_limit(
    task: Task, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer, config: GenerateConfig
) -> int:
    """Most tokens of an answer: `answer_headroom` times the longest grid of the task, its end, at most the cap."""
    grids = [grid for pair in (*task.train, *task.test) for grid in (pair.input, pair.output) if grid is not None]
    longest = max(len(tokenizer.encode(encoder.encode(grid), add_special_tokens=False)) for grid in grids)
    end = len(tokenizer.encode(fmt.answer_end, add_special_tokens=False))
    return min(config.max_new_tokens, round(config.answer_headroom * longest) + end)


def predict(
    requests: Sequence[Request],
    engine: Engine,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    config: GenerateConfig,
    deadline: Deadline,
) -> Iterator[Prediction]:
    """One prediction for every request, as soon as it is known. What does not fit at all is answered by a reason."""
    longest = min(config.max_prompt_tokens, token_limit(tokenizer))
    fitting = [request for request in requests if len(request.ids) <= longest]
    for request in requests:
        if len(request.ids) > longest:
            yield _prediction(request, "", None, "prompt_too_long", 0.0, 0)
    prompts = [request.ids for request in fitting]
    limits = [request.max_new_tokens for request in fitting]
    for position, completion in engine.generate(prompts, limits, deadline):
        yield read_completion(fitting[position], completion, encoder, fmt, tokenizer, deadline)


def read_completion(
    request: Request,
    completion: Completion,
    encoder: GridEncoder,
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    deadline: Deadline,
) -> Prediction:
    """Decode strictly and reverse the view. A completion that did not end never votes."""
    text, n_tokens = tokenizer.decode(completion.ids.tolist()), len(completion.ids)
    if not completion.ended:
        reason = "deadline" if deadline.passed else "no_end"
        return _prediction(request, text, None, reason, completion.log_prob, n_tokens)
    try:
        reader = request.fallback or encoder
        grid = request.augmentation.invert(reader.decode(answer_text(text, reader, fmt)))
    except DecodeError as error:
        return _prediction(request, text, None, error.reason, completion.log_prob, n_tokens)
    return _prediction(request, text, grid, None, completion.log_prob, n_tokens)


def _prediction(
    request: Request, text: str, grid: np.ndarray | None, reason: str | None, log_prob: float, n_tokens: int
) -> Prediction:
    return Prediction(
        request.task_id, request.query, request.view, request.augmentation, text, grid, reason, log_prob, n_tokens
    )
