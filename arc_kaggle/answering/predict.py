"""Inference and reverse augmentation (the IR of AIRV): requests in waves, completions to predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from arc_kaggle.answering.candidates import Prediction, group_candidates
from arc_kaggle.answering.requests import Request
from arc_kaggle.config.answer import GenerateConfig, Search
from arc_kaggle.engines.base import Completion, Engine, Found
from arc_kaggle.errors import DecodeError
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.tokens import TokenIds

MOST_DRAFTS = 4
"""Candidates of a query that the next wave takes as drafts, those of most views first."""

FoundByQuery = defaultdict[tuple[str, int], list[Prediction]]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An engine and how its model is talked to: grids become token ids, completions become grids."""

    engine: Engine
    notation: Notation

    def write(self, request: Request, grid: Grid) -> TokenIds:
        """The answer (T,) to a request, end included, that is this grid; the grid is as the task has it."""
        return self.notation.in_encoder(request.fallback).completion_ids(request.augmentation.apply(grid))

    def read(self, request: Request, completion: Completion, unended: str, rank: int = 0) -> Prediction:
        """Decode strictly, and where the notation allows it out of other words, and reverse the view.

        What did not end never votes; `unended` says why it did not.
        """
        text = self.notation.tokenizer.decode(completion.ids.tolist())
        unread = _prediction(request, text, None, unended, completion.log_prob, len(completion.ids), rank)
        if not completion.ended:
            return unread
        notation = self.notation.in_encoder(request.fallback)
        seen: Grid | None
        try:
            seen, reason = notation.read(text), None
        except DecodeError as error:
            seen, reason = notation.extract(text), error.reason
        if seen is None:
            return replace(unread, reason=reason)
        return replace(unread, grid=request.augmentation.invert(seen), reason=None, extracted=reason is not None)


def predict(
    requests: Sequence[Request],
    interpreter: Interpreter,
    config: GenerateConfig,
    deadline: Deadline,
    known: Sequence[Prediction] = (),
) -> Iterator[Prediction]:
    """One prediction or more for every request, as soon as they are known. Pilot views come first.

    Every wave takes what is `known` of other views, and what the waves before it gave, as drafts, which save time and
    change nothing. What does not fit, or was not needed any more, is answered by a reason.
    """
    longest = min(config.max_prompt_tokens, interpreter.notation.token_limit)
    fitting = [request for request in requests if len(request.ids) <= longest]
    yield from (_unanswered(request, "prompt_too_long") for request in requests if len(request.ids) > longest)
    found: FoundByQuery = defaultdict(list)
    seen: FoundByQuery = defaultdict(list)
    for prediction in known:
        seen[prediction.task_id, prediction.query].append(prediction)
    settled: set[tuple[str, int]] = set()
    for views, search in waves(sorted({request.view for request in fitting}), config):
        wave = [request for request in fitting if request.view in views]
        yield from (_unanswered(request, "settled") for request in wave if request.query_key in settled)
        wave = [request for request in wave if request.query_key not in settled]
        for prediction in _answer(wave, interpreter, config, search, seen, deadline):
            for of_queries in (found, seen):
                of_queries[prediction.task_id, prediction.query].append(prediction)
            yield prediction
        settled = settled_queries(found, config)


def waves(views: Sequence[int], config: GenerateConfig) -> Iterator[tuple[Sequence[int], Search | None]]:
    """Views that are answered together, and what is searched for.

    The pilots' likeliest answers are asked for also where there is a search, which then has them as drafts: a search
    may find nothing, a pilot always says something.
    """
    search = Search(config.p_min, config.max_nodes) if config.p_min else None
    pilots, rest = views[: config.n_pilots], views if search else views[config.n_pilots :]
    if pilots:
        yield pilots, None
    size = config.views_a_wave or max(1, len(rest))
    for first in range(0, len(rest), size):
        yield rest[first : first + size], search


def settled_queries(found: FoundByQuery, config: GenerateConfig) -> set[tuple[str, int]]:
    """Queries that are asked no further."""
    if not config.stop_lead:
        return set()
    return {key for key, of_query in found.items() if lead(of_query) >= config.stop_lead}


def lead(found: Iterable[Prediction]) -> int:
    """Views by which the leading candidate is ahead of the next, of the predictions of one query."""
    votes = sorted((candidate.votes for candidate in group_candidates(found)), reverse=True)
    return votes[0] - (votes[1] if len(votes) > 1 else 0) if votes else 0


def _answer(
    wave: Sequence[Request],
    interpreter: Interpreter,
    config: GenerateConfig,
    search: Search | None,
    seen: FoundByQuery,
    deadline: Deadline,
) -> Iterator[Prediction]:
    if not wave:
        return
    prompts, limits = [request.ids for request in wave], [request.max_new_tokens for request in wave]
    drafts = [[interpreter.write(request, grid) for grid in _guesses(request, seen)] for request in wave]
    if search is None:
        answers = interpreter.engine.generate(prompts, limits, deadline, drafts=drafts, decoding=config.decoding)
        for position, completion in answers:
            yield interpreter.read(wave[position], completion, "deadline" if deadline.passed else "no_end")
        return
    piloted = {prediction.key[:3] for of_query in seen.values() for prediction in of_query}
    for position, result in interpreter.engine.search(prompts, limits, deadline, search, drafts=drafts):
        request = wave[position]
        for rank, completion in enumerate(result.completions):
            yield interpreter.read(request, completion, "no_end", rank)
        if not result.completions and (*request.query_key, request.view) not in piloted:
            yield _unanswered(request, _why_nothing(result))


def _guesses(request: Request, seen: FoundByQuery) -> list[Grid]:
    """What other views of the query gave; its test input where none gave anything."""
    candidates = sorted(group_candidates(seen[request.query_key]), key=lambda candidate: -candidate.votes)
    return [candidate.grid for candidate in candidates[:MOST_DRAFTS]] or [request.asked]


def _why_nothing(result: Found) -> str:
    if result.stopped:
        return "deadline" if result.stopped == "deadline" else "search_limit"
    return "no_end" if result.cut else "nothing_likely"


def _unanswered(request: Request, reason: str) -> Prediction:
    return _prediction(request, "", None, reason, 0.0, 0)


def _prediction(
    request: Request, text: str, grid: Grid | None, reason: str | None, log_prob: float, n_tokens: int, rank: int = 0
) -> Prediction:
    task_id, query, view, augmentation = request.task_id, request.query, request.view, request.augmentation
    return Prediction(task_id, query, view, augmentation, text, grid, reason, log_prob, n_tokens, rank)
