"""The contract of `Engine`: what every engine promises, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
from models import TickingClock, assert_same, generate, lively_model, micro_of
from vllm_engines import vllm_engine

from arc_kaggle.config.answer import Decoding, Search
from arc_kaggle.config.engines import ENGINES as CAPABILITIES
from arc_kaggle.engines.base import Completion, Drafts, Engine, Found, Nlls
from arc_kaggle.engines.fake import FAKE_FORMAT, EchoEngine, SymbolTokenizer
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import EngineError
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

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

    def guesses(self) -> list[list[TokenIds]]:
        """Two or three for each prompt: its answer, that answer with a wrong token, and noise with end tokens in it."""
        rng, guesses = np.random.default_rng(1), []
        for each in generate(self.engine, self.prompts(), LIMITS):
            wrong, noise = each.ids.copy(), rng.integers(self.vocabulary, size=12)
            wrong[len(wrong) // 2 :][:1] = 3
            guesses.append([wrong, each.ids, noise][:: rng.choice([-1, 1])])
        return guesses


def fake() -> Candidate:
    tokenizer = SymbolTokenizer()
    end_id = tokenizer.id_of(FAKE_FORMAT.end)
    return Candidate(EchoEngine(tokenizer.id_of("I"), end_id), end_id, len(tokenizer.symbols))


def hf(tokens_per_batch: int = 65536, bucket: int = 64, kind: str = "llama", seed: int = 0) -> Candidate:
    model = lively_model(seed, kind)
    return Candidate(HFEngine(model, tokens_per_batch, bucket), model.end_id, len(model.tokenizer))


def vllm() -> Candidate:
    model = lively_model(0)
    return Candidate(vllm_engine(model), model.end_id, len(model.tokenizer))


def micro(kind: str = "llama") -> Candidate:
    model, _ = micro_of(kind=kind)
    return Candidate(MicroEngine(model, rows_per_batch=5), model.end_id, len(model.tokenizer))


ENGINES: dict[str, Callable[[], Candidate]] = {
    "fake": fake,
    "hf": hf,
    "hf, small batches": lambda: hf(tokens_per_batch=300, bucket=1),
    "hf, grid positions": lambda: hf(tokens_per_batch=300, kind="grid alone", seed=1),
    "micro": micro,
    "micro, grid positions": lambda: micro("grid"),
    **({"vllm": vllm} if find_spec("vllm") else {}),  # in an environment of its own: make test-backends
}
"""Every engine there is; a new one joins here."""
SEARCHING = [name for name in ENGINES if not name.startswith("micro")]
"""Those that have a search; the others refuse one."""


@pytest.fixture(params=ENGINES, scope="module")
def candidate(request: pytest.FixtureRequest) -> Iterator[Candidate]:
    yield from made(request.param)


@pytest.fixture(params=SEARCHING, scope="module")
def searching(request: pytest.FixtureRequest) -> Iterator[Candidate]:
    yield from made(request.param)


def made(name: str) -> Iterator[Candidate]:
    found = ENGINES[name]()
    yield found
    if name == "vllm":
        found.engine.close()  # type: ignore[attr-defined]


def test_the_table_says_which_engines_search() -> None:
    told = {name: "search" in can for name, can in CAPABILITIES.items()}
    assert all(told[name.split(",")[0]] is (name in SEARCHING) for name in ENGINES)  # type: ignore[index]
    engine = micro().engine
    with pytest.raises(EngineError, match=r"^micro-step model: found a search, expected greedy decoding or sampling"):
        list(engine.search([np.array([1])], [3], Deadline.never(), Search()))


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
    assert list(candidate.engine.score([], [], Deadline.never())) == []


def test_no_prompts_are_no_searches(searching: Candidate) -> None:
    assert list(searching.engine.search([], [], Deadline.never(), Search())) == []


@pytest.mark.parametrize("position", [0, 1])
def test_an_empty_prompt_is_refused(candidate: Candidate, position: int) -> None:
    prompts = candidate.prompts()[:2]
    prompts[position] = np.array([], dtype=np.int64)
    refusal = f"^prompt {position} of 2: found no tokens, expected at least one"
    with pytest.raises(EngineError, match=refusal):
        generate(candidate.engine, prompts, [5, 5])
    with pytest.raises(EngineError, match=refusal):
        list(candidate.engine.score(prompts, [[], []], Deadline.never()))


def test_a_search_behind_an_empty_prompt_is_refused(searching: Candidate) -> None:
    prompts = [*searching.prompts()[:1], np.array([], dtype=np.int64)]
    with pytest.raises(EngineError, match=r"^prompt 1 of 2: found no tokens, expected at least one"):
        list(searching.engine.search(prompts, [5, 5], Deadline.never(), Search()))


def test_every_prompt_needs_its_limit(candidate: Candidate) -> None:
    engine, prompts, never = candidate.engine, candidate.prompts(), Deadline.never()
    for asked in (
        engine.generate(prompts, LIMITS[1:], never),
        engine.generate(prompts, LIMITS, never, drafts=[()] * 3),
        engine.score(prompts, [()] * 3, never),
    ):
        with pytest.raises(ValueError, match="zip"):
            list(asked)


def test_every_search_needs_its_limit(searching: Candidate) -> None:
    engine, prompts, never = searching.engine, searching.prompts(), Deadline.never()
    for asked in (
        engine.search(prompts, LIMITS[1:], never, Search()),
        engine.search(prompts, LIMITS, never, Search(), drafts=[()] * 3),
    ):
        with pytest.raises(ValueError, match="zip"):
            list(asked)


def test_drafts_change_no_answer(candidate: Candidate) -> None:
    prompts, never = candidate.prompts(), Deadline.never()
    drafted = dict(candidate.engine.generate(prompts, LIMITS, never, drafts=candidate.guesses()))
    for position, plain in enumerate(completions(candidate)):
        assert_same(drafted[position], plain, 1e-4)


WIDE = Search(p_min=0.01)


def search(
    candidate: Candidate, options: Search = WIDE, drafts: Drafts | None = None, deadline: Deadline | None = None
) -> list[Found]:
    """In the order of the prompts, each of which must come exactly once."""
    prompts, deadline = candidate.prompts(), deadline or Deadline.never()
    found = list(candidate.engine.search(prompts, LIMITS, deadline, options, drafts=drafts))
    assert sorted(position for position, _ in found) == list(range(len(prompts)))
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def score(
    candidate: Candidate, completions: Sequence[Sequence[TokenIds]], deadline: Deadline | None = None
) -> list[Nlls]:
    prompts = candidate.prompts()
    found = list(candidate.engine.score(prompts, completions, deadline or Deadline.never()))
    assert sorted(position for position, _ in found) == list(range(len(prompts)))
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def test_a_search_finds_completions_over_the_threshold_the_likeliest_first(searching: Candidate) -> None:
    found = search(searching)
    assert sum(len(each.completions) > 0 for each in found) >= 5
    for each, limit in zip(found, LIMITS, strict=True):
        log_probs = [completion.log_prob for completion in each.completions]
        assert log_probs == sorted(log_probs, reverse=True)
        assert all(np.exp(log_prob) > WIDE.p_min for log_prob in log_probs)
        assert all(completion.ended and len(completion.ids) <= limit for completion in each.completions)
        assert all(
            completion.ids.tolist().index(searching.end_id) == len(completion.ids) - 1
            for completion in each.completions
        )
        assert len({tuple(completion.ids.tolist()) for completion in each.completions}) == len(log_probs)
        assert each.stopped == ""


def test_a_search_finds_the_greedy_answer_where_that_is_likely(searching: Candidate) -> None:
    n_found = 0
    for each, greedy in zip(search(searching), completions(searching), strict=True):
        known = {tuple(completion.ids.tolist()): completion for completion in each.completions}
        likely = greedy.ended and bool(np.exp(greedy.log_prob) > WIDE.p_min)
        assert (tuple(greedy.ids.tolist()) in known) is likely
        if likely:
            assert_same(known[tuple(greedy.ids.tolist())], greedy, 1e-4)
        n_found += likely
    assert n_found


def test_a_higher_threshold_finds_a_part(searching: Candidate) -> None:
    wide, narrow = search(searching), search(searching, Search(p_min=0.5))
    for many, few in zip(wide, narrow, strict=True):
        likely = [each for each in many.completions if np.exp(each.log_prob) > 0.5]
        assert [each.ids.tolist() for each in few.completions] == [each.ids.tolist() for each in likely]
        assert few.nodes <= many.nodes
    assert sum(each.nodes for each in narrow) < sum(each.nodes for each in wide)


def test_drafts_change_no_search(searching: Candidate) -> None:
    for one, other in zip(search(searching), search(searching, drafts=searching.guesses()), strict=True):
        assert (one.nodes, one.cut, one.stopped) == (other.nodes, other.cut, other.stopped)
        for plain, drafted in zip(one.completions, other.completions, strict=True):
            assert_same(plain, drafted, 1e-4)


def test_nodes_and_cut_prefixes_are_counted(searching: Candidate) -> None:
    """Every completion takes as many nodes as it has tokens, and shares them with others; the root is always one."""
    for each, limit in zip(search(searching), LIMITS, strict=True):
        longest = max((len(completion.ids) for completion in each.completions), default=0)
        assert each.nodes >= max(longest, min(limit, 1))
        assert each.cut >= (limit == 0)


def test_a_search_that_may_not_look_far_says_so(searching: Candidate) -> None:
    whole = search(searching)
    for few, each in zip(search(searching, Search(p_min=0.01, max_nodes=3)), whole, strict=True):
        assert few.nodes == min(3, each.nodes)
        assert few.stopped == ("nodes" if each.nodes > 3 else "")
        assert len(few.completions) <= len(each.completions)
    assert any(each.nodes > 3 for each in whole)


@pytest.mark.parametrize("seconds", [0, 5, 30])
def test_at_the_deadline_a_search_has_what_it_found(searching: Candidate, seconds: int) -> None:
    found = search(searching, deadline=Deadline.after(seconds, TickingClock()))
    assert {each.stopped for each in found} <= {"", "deadline"}
    assert seconds or all((each.completions, each.nodes) == ((), 0) for each in found if each.stopped)
    for cut, whole in zip(found, search(searching), strict=True):
        known = {tuple(completion.ids.tolist()) for completion in whole.completions}
        assert {tuple(completion.ids.tolist()) for completion in cut.completions} <= known
        assert cut.stopped or len(cut.completions) == len(whole.completions)


def test_a_score_is_what_the_search_found(searching: Candidate) -> None:
    found = search(searching)
    scores = score(searching, [[each.ids for each in row.completions] for row in found])
    for row, nlls in zip(found, scores, strict=True):
        assert nlls.dtype == np.float64
        np.testing.assert_allclose(nlls, [-each.log_prob for each in row.completions], atol=1e-4)


def test_a_score_depends_on_its_own_prompt_and_candidate_alone(candidate: Candidate) -> None:
    guesses, prompts = candidate.guesses(), candidate.prompts()
    together = score(candidate, guesses)
    for prompt, own, nlls in zip(prompts, guesses, together, strict=True):
        for ids, nll in zip(own, nlls, strict=True):
            ((_, alone),) = candidate.engine.score([prompt], [[ids]], Deadline.never())
            assert alone[0] == pytest.approx(nll, abs=1e-4)
    assert len({round(float(nll), 3) for nlls in together for nll in nlls}) > 5


def test_a_longer_candidate_is_no_likelier(candidate: Candidate) -> None:
    (answer,) = generate(candidate.engine, candidate.prompts()[:1], [20])
    beginnings = [answer.ids[:n] for n in range(len(answer.ids) + 1)]
    ((_, nlls),) = candidate.engine.score(candidate.prompts()[:1], [beginnings], Deadline.never())
    assert nlls[0] == 0
    assert (np.diff(nlls) >= 0).all()
    np.testing.assert_allclose(np.diff(nlls), -answer.log_probs, atol=1e-4)


def test_a_deadline_that_has_passed_leaves_no_scores(candidate: Candidate) -> None:
    for nlls in score(candidate, [[np.array([1, 2])] * 2 for _ in LENGTHS], PASSED):
        assert np.isnan(nlls).all()
        assert len(nlls) == 2


def test_what_an_engine_lacks_is_refused_by_name(candidate: Candidate) -> None:
    engine, prompts, never = candidate.engine, candidate.prompts()[:1], Deadline.never()
    for asked in (
        engine.generate(prompts, [3], never, adapters=["mine"]),
        engine.score(prompts, [prompts], never, adapters=["mine"]),
    ):
        with pytest.raises(EngineError, match=r"^adapters: found .*mine"):
            list(asked)


def test_what_a_search_lacks_is_refused_by_name(searching: Candidate) -> None:
    with pytest.raises(EngineError, match=r"^adapters: found .*mine"):
        list(searching.engine.search(searching.prompts()[:1], [3], Deadline.never(), Search(), adapters=["mine"]))


def test_the_fake_engine_has_one_answer_to_a_prompt() -> None:
    engine = fake().engine
    for decoding in (Decoding(temperature=0.5), Decoding(beams=3)):
        with pytest.raises(EngineError, match=r"^decoding: found .* but the fake engine has one answer to a prompt"):
            generate_with(engine, decoding)


def generate_with(engine: Engine, decoding: Decoding) -> None:
    list(engine.generate([np.array([1])], [3], Deadline.never(), decoding=decoding))
