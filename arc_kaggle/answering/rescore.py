"""Scoring: NLL of, and verdict on, every candidate of a query under the same views, each prompt computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from arc_kaggle.answering.candidates import CandidateScore, Prediction
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.tokens import TokenIds
from arc_kaggle.text.verdicts import verdicts_of


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
    notation = interpreter.notation
    views = make_requests(task, notation, generate, rng, range(config.n_views))
    longest = min(generate.max_prompt_tokens, notation.token_limit)
    requests = [r for r in views if len(r.ids) <= longest and len(candidates[r.query]) > 1]
    endings = verdicts_of(notation.format).endings(notation.tokenizer) if config.verify else ()
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
