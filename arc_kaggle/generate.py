"""AIRV without its vote: augment, infer, reverse. Views become prompts, completions become predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arc_kaggle.augmentation import Augmentation, spread_augmentations
from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import Prediction
from arc_kaggle.encoder import GridEncoder
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.errors import DecodeError
from arc_kaggle.prompt import PromptFormat, query_prompt
from arc_kaggle.task import Query, Task
from arc_kaggle.tokens import TokenIds, Tokenizer, tokenize


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
    """Longest prompt in tokens; of a longer task the last train pairs are left out."""
    tokens_per_batch: int = 65536
    """Most key-value slots in a batch, prompts and answers together."""
    max_seconds: float = 600.0
    """Most seconds of inference a task."""


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
    spread = spread_augmentations(config.n_views, rng, len(task.train), config.keep_background)
    for view, augmentation in enumerate(spread):
        seen = augmentation.apply_task(visible)
        limit = answer_limit(seen, encoder, tokenizer, config)
        for query in seen.queries:
            ids, dropped = fit_prompt(query, encoder, fmt, tokenizer, config.max_prompt_tokens)
            yield Request(task.id, query.index, view, augmentation, ids, limit, dropped)


def answer_limit(task: Task, encoder: GridEncoder, tokenizer: Tokenizer, config: GenerateConfig) -> int:
    """Most tokens of an answer: `answer_headroom` times the longest grid of the task, its end, at most the cap."""
    grids = [grid for pair in (*task.train, *task.test) for grid in (pair.input, pair.output) if grid is not None]
    longest = max(len(tokenizer.encode(encoder.encode(grid), add_special_tokens=False)) for grid in grids)
    return min(config.max_new_tokens, round(config.answer_headroom * longest) + 1)


def fit_prompt(
    query: Query, encoder: GridEncoder, fmt: PromptFormat, tokenizer: Tokenizer, max_tokens: int
) -> tuple[TokenIds, int]:
    """(token ids, train pairs left out): as many train pairs as fit, the last left out first, never fewer than one."""
    train = query.task.train
    for n_pairs in range(len(train), 0, -1):
        shorter = Query(replace(query.task, train=train[:n_pairs]), query.index)
        ids = tokenize(query_prompt(shorter, encoder, fmt), tokenizer).ids
        if len(ids) <= max_tokens:
            break
    return ids, len(train) - n_pairs


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
    fitting = [request for request in requests if len(request.ids) <= config.max_prompt_tokens]
    for request in requests:
        if len(request.ids) > config.max_prompt_tokens:
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
        grid = request.augmentation.invert(encoder.decode(text.removesuffix(fmt.end)))
    except DecodeError as error:
        return _prediction(request, text, None, error.reason, completion.log_prob, n_tokens)
    return _prediction(request, text, grid, None, completion.log_prob, n_tokens)


def _prediction(
    request: Request, text: str, grid: np.ndarray | None, reason: str | None, log_prob: float, n_tokens: int
) -> Prediction:
    return Prediction(
        request.task_id, request.query, request.view, request.augmentation, text, grid, reason, log_prob, n_tokens
    )
