"""Scoring: NLLs, verdicts and comparisons of candidates under the same views, each prompt computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isqrt

import numpy as np

from arc_kaggle.answering.candidates import Candidate, CandidateScore, Prediction
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.answering.vote import rank_candidates
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig
from arc_kaggle.engines.base import Nlls
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.choices import choice_endings, pairings
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
    asked = [_asked(r, candidates[r.query], interpreter, endings, config.pairs) for r in requests]
    until = deadline.earlier(config.max_seconds)
    for position, nlls in interpreter.engine.score([r.ids for r in requests], asked, until):
        request = requests[position]
        of_query = candidates[request.query]
        if not np.isnan(nlls).any():
            n = len(of_query) * (1 + len(endings))
            of_each = nlls[:n].reshape(len(of_query), -1)  # (candidate, its answer and that with endings)
            duels = _duels(request, of_query, nlls[n:])
            for place, (candidate, (nll, *ended)) in enumerate(zip(of_query, of_each.tolist(), strict=True)):
                verdict = ended[1] - ended[0] if ended else None  # what comes before the verdict is in both
                score = CandidateScore(task.id, request.query, request.view, candidate.grid, nll, verdict)
                yield replace(score, duels=tuple(duels[place]))


def _asked(
    request: Request, candidates: Sequence[Candidate], interpreter: Interpreter, endings: Sequence[TokenIds], n: int
) -> list[TokenIds]:
    """All that is scored behind a prompt: every answer, with its endings, then every pair of the first `n` answers."""
    answers = [interpreter.write(request, candidate.grid) for candidate in candidates]
    single = [ids for answer in answers for ids in _with_endings(answer, endings)]
    if not _compares(request, answers, interpreter, n):
        return single
    notation = interpreter.notation.in_encoder(request.fallback)
    pairs = pairings(min(n, len(candidates)), request.view)
    return [*single, *(ids for i, j in pairs for ids in choice_endings(answers[i], answers[j], notation))]


def _compares(request: Request, answers: Sequence[TokenIds], interpreter: Interpreter, n: int) -> bool:
    """Whether two answers fit behind the prompt; of a view all pairs are compared, or none."""
    longest = sum(sorted(map(len, answers[:n]))[-2:])
    return n > 1 and len(request.ids) + longest <= interpreter.notation.token_limit


def _duels(request: Request, candidates: Sequence[Candidate], nlls: Nlls) -> list[list[tuple[Grid, float]]]:
    """By candidate, those that it stood before, with the margin of each comparison; `nlls` two a pair, or none."""
    duels: list[list[tuple[Grid, float]]] = [[] for _ in candidates]
    n = (1 + isqrt(1 + 4 * len(nlls))) // 2  # n candidates have n (n - 1) / 2 pairs
    for (i, j), (is_first, is_second) in zip(pairings(n, request.view), nlls.reshape(-1, 2).tolist(), strict=False):
        duels[i].append((candidates[j].grid, is_second - is_first))
    return duels


def _with_endings(answer: TokenIds, endings: Sequence[TokenIds]) -> list[TokenIds]:
    """An answer (T,), and for a verdict on it the same with the question and each of both verdicts behind it."""
    return [answer, *(np.concatenate([answer, ending]) for ending in endings)]
