"""Scoring: NLL of, and verdict on, every candidate of a query under the same views, each prompt computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arc_kaggle.budget import Deadline
from arc_kaggle.candidate import CandidateScore, Prediction
from arc_kaggle.errors import ConfigError
from arc_kaggle.generate import GenerateConfig, make_requests
from arc_kaggle.infer import Interpreter
from arc_kaggle.task import Task
from arc_kaggle.tokens import TokenIds, token_limit
from arc_kaggle.verify import verdicts_of
from arc_kaggle.vote import rank_candidates


@dataclass(frozen=True, slots=True)
class RescoreConfig:
    """How candidates are scored after all views have answered (PoE paper, ARChitects 2025, NVARC 2025)."""

    n_views: int = 0
    """Views under which every candidate is scored; nothing is scored where 0."""
    max_candidates: int = 8
    """Most candidates of a query that are scored, those of most votes first."""
    verify: bool = False
    """Ask the model under each of those views whether a candidate is right; it has to have been trained to say so, at
    test time with --tune.verify-share."""
    max_seconds: float = 300.0
    """Most seconds of scoring a task."""

    def __post_init__(self) -> None:
        for name, least in (("n_views", 0), ("max_candidates", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"option rescore.{name}: found {getattr(self, name)}, expected {least} or more")
        if self.verify and not self.n_views:
            raise ConfigError(
                "option rescore.verify: found it with rescore.n_views 0, expected views to ask under; add "
                "--rescore.n-views 8"
            )


def rescore(
    task: Task,
    predictions: Sequence[Prediction],
    interpreter: Interpreter,
    generate: GenerateConfig,
    config: RescoreConfig,
    rng: np.random.Generator,
    deadline: Deadline,
) -> Iterator[CandidateScore]:
    """Scores of the candidates of every query that has two or more; of a view for all of them, or for none.

    `rng` in the state that the predictions' views were drawn from gives the same views again.
    """
    candidates = {
        index: rank_candidates(p for p in predictions if p.query == index)[: config.max_candidates]
        for index in range(len(task.test))
    }
    views = make_requests(
        task, interpreter.encoder, interpreter.fmt, interpreter.tokenizer, generate, rng, range(config.n_views)
    )
    longest = min(generate.max_prompt_tokens, token_limit(interpreter.tokenizer))
    requests = [r for r in views if len(r.ids) <= longest and len(candidates[r.query]) > 1]
    endings = verdicts_of(interpreter.fmt).endings(interpreter.tokenizer) if config.verify else ()
    answers = [
        [ids for c in candidates[r.query] for ids in _with_endings(interpreter.write(r, c.grid), endings)]
        for r in requests
    ]
    until = deadline.earlier(config.max_seconds)
    for position, nlls in interpreter.engine.score([r.ids for r in requests], answers, until):
        request = requests[position]
        if not np.isnan(nlls).any():
            of_each = nlls.reshape(len(candidates[request.query]), -1)  # (candidate, its answer and that with endings)
            for candidate, (nll, *ended) in zip(candidates[request.query], of_each.tolist(), strict=True):
                verdict = ended[1] - ended[0] if ended else None  # what comes before the verdict is in both
                yield CandidateScore(task.id, request.query, request.view, candidate.grid, nll, verdict)


def _with_endings(answer: TokenIds, endings: Sequence[TokenIds]) -> list[TokenIds]:
    """An answer (T,), and for a verdict on it the same with the question and each of both verdicts behind it."""
    return [answer, *(np.concatenate([answer, ending]) for ending in endings)]
