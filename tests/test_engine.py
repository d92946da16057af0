"""The contract of `Engine`: what every engine promises, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from models import TickingClock, assert_same, generate, lively_model

from arc_kaggle.budget import Deadline
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.engines.fake import EchoEngine, SymbolTokenizer, fake_format
from arc_kaggle.engines.hf import HFEngine
from arc_kaggle.errors import EngineError
from arc_kaggle.tokens import TokenIds

LENGTHS = [17, 1, 40, 3, 3, 90, 64, 2, 33, 8, 65, 5]
LIMITS = [20, 20, 0, 20, 1, 7, 20, 3, 20, 200, 20, 2]
PASSED = Deadline(0, lambda: 1)


@dataclass(frozen=True)
class Candidate:
    """An engine under test, the id that ends its answers, and how many ids it knows."""

    engine: Engine
    end_id: int
    vocabulary: int

    def prompts(self) -> list[TokenIds]:
        rng = np.random.default_rng(0)
        return [rng.integers(self.vocabulary, size=length) for length in LENGTHS]


def fake() -> Candidate:
    tokenizer = SymbolTokenizer()
    end_id = tokenizer.id_of(fake_format.end)
    return Candidate(EchoEngine(tokenizer.id_of("I"), end_id), end_id, len(tokenizer.symbols))


def hf(tokens_per_batch: int = 65536, bucket: int = 64) -> Candidate:
    model = lively_model(0)
    return Candidate(HFEngine(model, tokens_per_batch, bucket), model.end_id, len(model.tokenizer))


ENGINES: dict[str, Callable[[], Candidate]] = {
    "fake": fake,
    "hf": hf,
    "hf, small batches": lambda: hf(tokens_per_batch=300, bucket=1),
}
"""Every engine there is; a new one joins here."""


@pytest.fixture(params=ENGINES, scope="module")
def candidate(request: pytest.FixtureRequest) -> Candidate:
    return ENGINES[request.param]()


def completions(candidate: Candidate, deadline: Deadline | None = None) -> list[Completion]:
    return generate(candidate.engine, candidate.prompts(), LIMITS, deadline)


def test_answers_are_worth_testing(candidate: Candidate) -> None:
    found = completions(candidate)
    assert {completion.ended for completion in found} == {True, False}
    assert len({len(completion.ids) for completion in found}) > 3


def test_every_prompt_gets_one_completion_within_its_limit(candidate: Candidate) -> None:
    for limit, completion in zip(LIMITS, completions(candidate), strict=True):
        assert completion.ended or len(completion.ids) == limit
        assert len(completion.ids) <= limit


def test_ended_says_that_the_end_is_there(candidate: Candidate) -> None:
    for completion in completions(candidate):
        ids = completion.ids.tolist()
        assert completion.ended is (candidate.end_id in ids)
        assert candidate.end_id not in ids[:-1]


def test_every_id_has_a_log_probability(candidate: Candidate) -> None:
    for completion in completions(candidate):
        assert completion.ids.dtype == np.int64
        assert completion.log_probs.dtype == np.float32
        assert completion.log_probs.shape == completion.ids.shape == (len(completion.ids),)
        assert (completion.log_probs <= 0).all()
        assert ((completion.ids >= 0) & (completion.ids < candidate.vocabulary)).all()
        assert completion.log_prob == pytest.approx(float(completion.log_probs.sum()))


def test_the_position_is_that_of_the_prompt(candidate: Candidate) -> None:
    forward = completions(candidate)
    backward = generate(candidate.engine, candidate.prompts()[::-1], LIMITS[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert_same(one, other, 1e-4)


def test_an_answer_depends_on_nothing_but_its_own_prompt(candidate: Candidate) -> None:
    together = completions(candidate)
    for prompt, limit, completion in zip(candidate.prompts(), LIMITS, together, strict=True):
        (alone,) = generate(candidate.engine, [prompt], [limit])
        assert_same(completion, alone, 1e-4)


def test_a_smaller_limit_cuts_the_same_answer(candidate: Candidate) -> None:
    prompts = candidate.prompts()
    whole = generate(candidate.engine, prompts, [20] * len(prompts))
    for limit in (0, 1, 5):
        for cut, full in zip(generate(candidate.engine, prompts, [limit] * len(prompts)), whole, strict=True):
            assert cut.ids.tolist() == full.ids[:limit].tolist()


def test_the_same_call_twice_gives_the_same(candidate: Candidate) -> None:
    for one, other in zip(completions(candidate), completions(candidate), strict=True):
        assert_same(one, other)


def test_prompts_are_left_as_they_are(candidate: Candidate) -> None:
    prompts = candidate.prompts()
    generate(candidate.engine, prompts, LIMITS)
    assert [prompt.tolist() for prompt in prompts] == [prompt.tolist() for prompt in candidate.prompts()]


def test_a_deadline_that_has_passed_leaves_empty_completions(candidate: Candidate) -> None:
    for completion in completions(candidate, PASSED):
        assert (len(completion.ids), len(completion.log_probs), completion.ended) == (0, 0, False)


@pytest.mark.parametrize("seconds", [5, 30, 60])
def test_at_the_deadline_completions_stand_as_they_are(candidate: Candidate, seconds: int) -> None:
    """The clock moves with every look at it, so the deadline comes somewhere in the middle."""
    whole = completions(candidate)
    found = completions(candidate, Deadline.after(seconds, TickingClock()))
    for cut, full in zip(found, whole, strict=True):
        assert cut.ids.tolist() == full.ids[: len(cut.ids)].tolist()
        assert cut.ended is (full.ended and len(cut.ids) == len(full.ids))


def test_no_prompts_are_no_completions(candidate: Candidate) -> None:
    assert generate(candidate.engine, [], []) == []


@pytest.mark.parametrize("position", [0, 1])
def test_an_empty_prompt_is_refused(candidate: Candidate, position: int) -> None:
    prompts = candidate.prompts()[:2]
    prompts[position] = np.array([], dtype=np.int64)
    with pytest.raises(EngineError, match=f"^prompt {position} of 2: found no tokens, expected at least one"):
        generate(candidate.engine, prompts, [5, 5])


def test_every_prompt_needs_its_limit(candidate: Candidate) -> None:
    with pytest.raises(ValueError, match="zip"):
        generate(candidate.engine, candidate.prompts(), LIMITS[1:])
