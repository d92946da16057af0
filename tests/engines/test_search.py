"""The search against its plain definition: drafts, batches, compacted slots and re-fed prefixes change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from models import TickingClock, assert_same, generate, lively_model, random_prompts

from arc_kaggle.config.answer import Decoding, Search
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.engines.base import Found
from arc_kaggle.engines.drafts import NO_DRAFT, Draft, Guesses, continuation
from arc_kaggle.engines.hf import cache as cache_module
from arc_kaggle.engines.hf.cache import SlotCache
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.hf.forward import Forward, SlotRange
from arc_kaggle.engines.hf.policy import Threshold
from arc_kaggle.engines.tree import Branch, Feed, Row, best_width, plan
from arc_kaggle.errors import ConfigError, EngineError
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.models.loss import collate, completion_loss
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import sample_augmentation
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.prompt import query_prompt, training_prompt
from arc_kaggle.text.tokens import TokenIds, tokenize

LENGTHS = [3, 50, 7, 64, 65, 12, 9, 33, 1, 100, 2, 128]
LIMITS = [12, 9, 12, 1, 12, 3, 12, 12, 7, 12, 0, 12]
PROMPTS = random_prompts(LENGTHS, seed=4)
NEAR = 1e-4
"""Nats from the threshold within which rounding decides."""


def undecided_model(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """One that finds several tokens likely, so that its trees have branches."""
    model = replace(lively_model(seed), network=_mistral()) if kind == "mistral" else lively_model(seed, kind)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(5 if kind == "mistral" else 0.5)
    return replace(model, network=model.network.to(dtype))


def _mistral(window: int | None = None) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    shape = {"vocab_size": 16, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    return MistralForCausalLM(
        MistralConfig(**shape, num_attention_heads=4, num_key_value_heads=2, sliding_window=window)
    ).eval()


@dataclass
class Expected:
    """What the definition finds: NLL of each completion, prefixes looked at, those cut, and how near any came."""

    completions: dict[tuple[int, ...], float] = field(default_factory=dict)
    nodes: int = 0
    cut: int = 0
    nearest: float = math.inf


@torch.inference_mode()
def search_slowly(model: LoadedModel, prompt: TokenIds, limit: int, max_nll: float) -> Expected:
    """The definition: every prefix by a full forward of all its tokens, those of one length at once; no cache."""
    expected, live = Expected(), {(): 0.0}
    for length in range(limit + 1):
        if length == limit or not live:
            expected.cut = len(live)
            break
        ids = torch.tensor([[*prompt.tolist(), *prefix] for prefix in live])
        network: Any = model.network
        log_probs = network(input_ids=ids, use_cache=False).logits[:, -1].double().log_softmax(dim=-1)  # (live, vocab)
        expected.nodes += len(live)
        nlls = torch.tensor(list(live.values()))[:, None] - log_probs
        expected.nearest = min(expected.nearest, float((nlls - max_nll).abs().min()))
        prefixes = list(live)
        over = {(*prefixes[i], token): float(nlls[i, token]) for i, token in (nlls < max_nll).nonzero().tolist()}
        expected.completions |= {prefix: nll for prefix, nll in over.items() if prefix[-1] == model.end_id}
        live = {prefix: nll for prefix, nll in over.items() if prefix[-1] != model.end_id}
    return expected


def search(engine: HFEngine, limits: Sequence[int] = LIMITS, *args: Any, **options: Any) -> list[Found]:
    """In the order of PROMPTS, each of which must come exactly once."""
    prompts = options.pop("prompts", PROMPTS)
    deadline = options.pop("deadline", Deadline.never())
    found = list(engine.search(prompts, limits, deadline, *args, **options))
    assert sorted(position for position, _ in found) == list(range(len(prompts)))
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def assert_found(found: Found, expected: Expected, max_nll: float) -> None:
    nlls = {tuple(each.ids.tolist()): -each.log_prob for each in found.completions}
    for ids in nlls.keys() ^ expected.completions.keys():
        assert abs(expected.completions.get(ids, max_nll) - max_nll) < NEAR, ids
    for ids in nlls.keys() & expected.completions.keys():
        assert nlls[ids] == pytest.approx(expected.completions[ids], abs=NEAR)
    assert all(each.ended for each in found.completions)
    assert list(nlls.values()) == sorted(nlls.values())
    if expected.nearest > NEAR:
        assert (found.nodes, found.cut, found.stopped) == (expected.nodes, expected.cut, "")


def drafts_for(expected: Sequence[Expected], model: LoadedModel, kind: str) -> list[list[TokenIds]]:
    """Right ones, right ones with two wrong tokens, or noise, some of it with end tokens in the middle."""
    rng, drafts = np.random.default_rng(3), []
    for each in expected:
        likely = sorted(each.completions, key=lambda ids: each.completions[ids])
        guesses = [np.array(ids) for ids in likely] if kind != "noise" else []
        guesses = guesses or [rng.integers(16, size=30) for _ in range(2)]
        if kind == "spoiled":
            guesses = [np.where(rng.random(len(ids)) < 0.2, 7, ids) for ids in guesses]
        drafts.append(guesses)
    return drafts


MODELS = [("llama", 0), ("qwen2", 0), ("mistral", 0), ("gpt2", 0), ("grid alone", 0)]


@pytest.fixture(params=MODELS, ids=lambda item: f"{item[0]}-{item[1]}", scope="module")
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return undecided_model(*request.param)


P_MIN = 0.005


@pytest.fixture(scope="module")
def expected(model: LoadedModel) -> list[Expected]:
    max_nll = Search(P_MIN).max_nll
    return [search_slowly(model, prompt, limit, max_nll) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]


def assert_all_found(found: Sequence[Found], expected: Sequence[Expected], p_min: float = P_MIN) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_found(one, other, Search(p_min).max_nll)


def test_the_trees_are_worth_searching(expected: list[Expected]) -> None:
    assert sum(len(each.completions) > 0 for each in expected) >= 8
    assert max(len(each.completions) for each in expected) >= 4
    assert max(each.nodes for each in expected) > 50
    assert sum(each.nearest > NEAR for each in expected) >= 8
    assert any(each.cut for each in expected)


@pytest.mark.parametrize("draft", [None, "right", "spoiled", "noise"])
def test_search_finds_what_the_definition_finds(
    model: LoadedModel, expected: list[Expected], draft: str | None
) -> None:
    drafts = None if draft is None else drafts_for(expected, model, draft)
    assert_all_found(search(HFEngine(model), LIMITS, Search(P_MIN), drafts=drafts), expected)


def test_smaller_batches_find_the_same(model: LoadedModel, expected: list[Expected]) -> None:
    assert_all_found(search(HFEngine(model, tokens_per_batch=300, bucket=7), LIMITS, Search(P_MIN)), expected)


def test_in_double_precision_nothing_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_search.NEAR", 1e-6)
    model, limits = undecided_model("llama", 2, torch.float64), [8] * len(PROMPTS)
    expected = [search_slowly(model, prompt, 8, Search(P_MIN).max_nll) for prompt in PROMPTS]
    assert sum(each.nearest > 1e-6 for each in expected) == len(PROMPTS)
    assert_all_found(search(HFEngine(model), limits, Search(P_MIN)), expected)


def test_eager_attention_finds_the_same() -> None:
    model = undecided_model("llama")
    expected = [search_slowly(model, prompt, 6, Search(P_MIN).max_nll) for prompt in PROMPTS]
    model.network.set_attn_implementation("eager")
    assert_all_found(search(HFEngine(model), [6] * len(PROMPTS), Search(P_MIN)), expected)


@pytest.fixture(scope="module")
def tuned_box() -> tuple[LoadedModel, list[TokenIds]]:
    """The model that ships, after a moment on one small task, and 56 views of that task's test inputs."""
    model, rng = load_model(BOX_FOLDER, "fp32"), np.random.default_rng(0)
    inputs = [as_grid(rng.integers(0, 4, (1, 2)).astype(np.int8).tolist()) for _ in range(9)]
    pairs = [Pair(grid, as_grid(grid[:, ::-1].tolist())) for grid in inputs]
    task = Task("mirrored", tuple(pairs[:2]), tuple(Pair(pair.input, None) for pair in pairs[2:]))
    views = [sample_augmentation(rng, 2, symmetry=i % 8).apply_task(task) for i in range(168)]
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=3e-3)
    for first in range(8, 168, 8):
        texts = [training_prompt(view, model.notation) for view in views[first : first + 8]]
        batch = collate([tokenize(text, model.tokenizer) for text in texts], model.pad_id, bucket=8)
        completion_loss(model, *batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    queries = [query for view in views[:8] for query in view.queries]
    texts = [query_prompt(query, model.notation) for query in queries]
    return model, [tokenize(text, model.tokenizer).ids for text in texts]


def test_the_shipped_model_finds_what_the_definition_finds(tuned_box: tuple[LoadedModel, list[TokenIds]]) -> None:
    (model, prompts), p_min = tuned_box, 0.03
    limits = [10] * len(prompts)
    expected = [search_slowly(model, prompt, 10, Search(p_min).max_nll) for prompt in prompts]
    assert sum(len(each.completions) > 0 and each.nearest > NEAR for each in expected) >= 50
    for drafts in (None, drafts_for(expected, model, "spoiled")):
        found = search(HFEngine(model), limits, Search(p_min), prompts=prompts, drafts=drafts)
        assert_all_found(found, expected, p_min)


class Spy:
    """Counts calls of a method, and keeps what `see` makes of their arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, see: Callable[..., Any]) -> None:
        self.seen: list[Any] = []
        method = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            self.seen.append(see(*args, **options))
            return method(*args, **options)

        monkeypatch.setattr(owner, name, call)


def test_slots_are_compacted_and_prefixes_fed_again(
    model: LoadedModel, expected: list[Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt at a time, with room for one completion: branches wait without slots, never more than there may be."""
    moved = Spy(monkeypatch, cache_module.SlotLayer, "move", lambda layer, sources, low: sources.shape)
    fed = Spy(monkeypatch, Forward, "feed", lambda forward, spans, width: _again(forward, spans))
    assert_all_found(search(HFEngine(model, tokens_per_batch=1, bucket=1), LIMITS, Search(P_MIN)), expected)
    assert len(moved.seen) > 20
    assert sum(fed.seen) > 20


def _again(forward: Forward, spans: Sequence[SlotRange]) -> int:
    """Spans that begin at the root again, after the first; no slot may lie outside of the cache."""
    target = forward.memory.target
    assert all(span.slots.max() < target.n_slots for span in spans)
    begun = [span for span in spans if not len(span.ancestors)]
    return sum(len(span.ids) > 1 and forward.memory.used[span.row] > forward.memory.starts[span.row] for span in begun)


def test_keys_and_values_stay_within_the_bytes_that_they_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = undecided_model("qwen2"), []
    begin = cache_module.SlotLayer.lazy_initialization

    def spy(layer: Any, keys: Any, values: Any) -> None:
        begin(layer, keys, values)
        sizes.append(layer.keys.nbytes + layer.values.nbytes)

    monkeypatch.setattr(cache_module.SlotLayer, "lazy_initialization", spy)
    prompts = [prompt for prompt in PROMPTS if len(prompt) < 64]
    for max_bytes in (90_000, 300_000):
        sizes.clear()
        search(HFEngine(model, max_bytes=max_bytes), [6] * len(prompts), Search(0.05), prompts=prompts)
        largest = max(sizes[::2]) + max(sizes[1::2])  # two layers
        padding = 512 * len(prompts)  # one more slot a row
        assert 0.5 * max_bytes < largest <= max_bytes + padding


def test_rows_that_are_through_leave_the_batch(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Spy(monkeypatch, SlotCache, "keep", lambda memory, rows: (len(rows), len(memory.starts)))
    limits = [2 if i % 3 else 12 for i in range(len(PROMPTS))]
    expected = [search_slowly(model, p, n, Search(P_MIN).max_nll) for p, n in zip(PROMPTS, limits, strict=True)]
    assert_all_found(search(HFEngine(model), limits, Search(P_MIN)), expected)
    assert kept.seen
    assert all(2 * left <= before for left, before in kept.seen)


@pytest.mark.parametrize("max_nodes", [1, 7, 30])
def test_a_limit_of_nodes(max_nodes: int) -> None:
    model = undecided_model("llama")
    limited = search(HFEngine(model), LIMITS, Search(P_MIN, max_nodes=max_nodes))
    for found, whole in zip(limited, search(HFEngine(model), LIMITS, Search(P_MIN)), strict=True):
        assert found.nodes == min(max_nodes, whole.nodes)
        assert found.stopped == ("nodes" if whole.nodes > max_nodes else "")
        assert_part(found, whole)


def assert_part(found: Found, whole: Found) -> None:
    known = {tuple(each.ids.tolist()): each.log_prob for each in whole.completions}
    for each in found.completions:
        assert known[tuple(each.ids.tolist())] == pytest.approx(each.log_prob, abs=NEAR)


@pytest.mark.parametrize("seconds", [0, 3, 6, 12])
def test_at_the_deadline_there_is_what_was_found(seconds: int) -> None:
    model = undecided_model("llama")
    whole = search(HFEngine(model), LIMITS, Search(P_MIN))
    cut = search(HFEngine(model), LIMITS, Search(P_MIN), deadline=Deadline.after(seconds, TickingClock()))
    assert {each.stopped for each in cut} <= {"", "deadline"}
    assert "deadline" in {each.stopped for each in cut}
    assert all(each.nodes == 0 for each in cut) is (seconds < 6)
    for found, all_found in zip(cut, whole, strict=True):
        assert_part(found, all_found)


def test_seconds_of_one_batch_are_limited() -> None:
    model, clock = undecided_model("llama"), TickingClock()
    found = search(HFEngine(model, 1), LIMITS, Search(P_MIN, max_seconds=4), deadline=Deadline(math.inf, clock))
    assert sum(each.stopped == "deadline" for each in found) > 5
    assert sum(each.nodes > 0 for each in found) > 5


GREEDY_LIMITS = [25] * len(PROMPTS)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "grid alone"])
def test_drafts_change_no_greedy_answer(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = lively_model(seed, kind), np.random.default_rng(seed)
    plain = generate(HFEngine(model), PROMPTS, GREEDY_LIMITS)
    right = [[each.ids] for each in plain]
    spoiled = [[np.where(rng.random(len(ids)) < 0.2, 7, ids), ids] for (ids,) in right]
    noise = [[rng.integers(16, size=rng.integers(30))] for _ in PROMPTS]
    fed = Spy(monkeypatch, Forward, "feed", lambda forward, spans, width: width)
    counts = []
    for drafts in ([()] * len(PROMPTS), right, spoiled, noise):
        fed.seen.clear()
        found = HFEngine(model).generate(PROMPTS, GREEDY_LIMITS, Deadline.never(), drafts=drafts)
        for (_, one), other in zip(sorted(found, key=lambda item: item[0]), plain, strict=True):
            assert_same(one, other, 1e-5)
        counts.append(len(fed.seen))
    assert 2 * counts[1] < counts[0]  # nothing to check but what was guessed
    assert counts[2] < counts[0]


def sample(model: LoadedModel, decoding: Decoding, prompts: Sequence[TokenIds] = PROMPTS, **options: Any) -> list[Any]:
    engine = HFEngine(model, tokens_per_batch=options.pop("tokens_per_batch", 65536))
    found = engine.generate(prompts, [12] * len(prompts), Deadline.never(), decoding=decoding, **options)
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def test_neither_drafts_nor_other_rows_change_a_sample() -> None:
    model, decoding = undecided_model("llama"), Decoding(temperature=0.8, seed=3)
    plain, rng = sample(model, decoding), np.random.default_rng(0)
    drafts = [[np.where(rng.random(len(each.ids)) < 0.1, 7, each.ids)] for each in plain]
    for other in (
        sample(model, decoding, drafts=drafts),
        sample(model, decoding, tokens_per_batch=1),
        sample(model, decoding, PROMPTS[::-1])[::-1],
    ):
        for one, two in zip(plain, other, strict=True):
            assert_same(one, two, 1e-4)
    assert any(
        one.ids.tolist() != two.ids.tolist() for one, two in zip(plain, sample(model, Decoding(0.8)), strict=True)
    )


def test_samples_come_as_often_as_they_are_likely() -> None:
    model, temperature = undecided_model("llama"), 0.7
    prompts = [np.concatenate([PROMPTS[1], np.array([first, second])]) for first in range(16) for second in range(16)]
    with torch.inference_mode():
        logits = model.network(input_ids=torch.tensor(np.stack(prompts))).logits[:, -1].double()
    shares = (logits / temperature).softmax(dim=-1).numpy()  # (prompts, vocab)
    found = list(HFEngine(model).generate(prompts, [1] * 256, Deadline.never(), decoding=Decoding(temperature)))
    counts = np.bincount([int(each.ids[0]) for _, each in found], minlength=16)
    sigma = np.sqrt((shares * (1 - shares)).sum(axis=0))
    assert (np.abs(counts - shares.sum(axis=0)) < 4 * sigma + 1).all()
    log_probs = logits.log_softmax(dim=-1).numpy()
    for position, each in found:
        assert each.log_prob == pytest.approx(log_probs[position, each.ids[0]], abs=1e-4)


def test_cold_samples_are_greedy_and_the_best_of_some_is_no_worse_than_one() -> None:
    model = undecided_model("llama")
    for one, other in zip(sample(model, Decoding(1e-4)), sample(model, Decoding()), strict=True):
        assert_same(one, other, 1e-4)
    singles, bests = sample(model, Decoding(1.0)), sample(model, Decoding(1.0, best_of=6))
    keys = [
        ((one.ended, one.log_prob), (best.ended, best.log_prob + 1e-4))
        for one, best in zip(singles, bests, strict=True)
    ]
    assert all(one <= best for one, best in keys)
    assert sum(one < (best[0], best[1] - 1e-3) for one, best in keys) > 5


@torch.inference_mode()
def beam_slowly(model: LoadedModel, prompt: TokenIds, limit: int, beams: int) -> tuple[list[int], float]:
    """The definition: of all prefixes one token longer, and those that have ended, the likeliest are kept."""
    kept: list[tuple[float, list[int], bool]] = [(0.0, [], False)]
    for _ in range(limit):
        pool = [each for each in kept if each[2]]
        for log_prob, ids, ended in kept:
            if not ended:
                network: Any = model.network
                logits = network(input_ids=torch.tensor([[*prompt.tolist(), *ids]])).logits[0, -1].double()
                pool += [
                    (log_prob + more, [*ids, token], token == model.end_id)
                    for token, more in enumerate(logits.log_softmax(dim=-1).tolist())
                ]
        kept = sorted(pool, key=lambda each: -each[0])[:beams]
    best = max(kept, key=lambda each: (each[2], each[0]))
    return best[1], best[0]


@pytest.mark.parametrize("beams", [2, 5])
def test_beams_keep_what_the_definition_keeps(model: LoadedModel, beams: int) -> None:
    prompts = PROMPTS[:6]
    found = HFEngine(model).generate(prompts, [8] * 6, Deadline.never(), decoding=Decoding(beams=beams))
    for position, each in found:
        ids, log_prob = beam_slowly(model, prompts[position], 8, beams)
        assert each.ids.tolist() == ids
        assert each.log_prob == pytest.approx(log_prob, abs=NEAR)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, "option generate.decoding.temperature: found -1.0, expected 0 or more"),
        ({"best_of": 3}, "option generate.decoding.best_of: found 3 at temperature 0"),
        ({"beams": 0}, "option generate.decoding.beams: found 0, expected 1 or more"),
        ({"beams": 2, "temperature": 1.0}, "option generate.decoding.beams: found 2 at temperature 1.0"),
    ],
)
def test_ways_to_decode_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoding(**values)


@pytest.mark.parametrize("values", [{"p_min": 0.0}, {"p_min": 1.0}, {"max_nodes": 0}, {"max_seconds": 0.0}])
def test_searches_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"option .*{next(iter(values))}: found"):
        Search(**values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4], [5, 6, 9, 1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 7, 9, 1, 2, 3, 4], [7, 9, 1, 2, 3, 4]),  # the later of equals
        ([8, 1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 7, 8, 1, 2, 3, 4], [5, 9, 1, 2, 3, 4, 7, 8, 1, 2, 3, 4]),  # the longer match
        ([2, 3, 4, 5, 6, 9, 2, 3, 4], []),  # three alike are too few
        ([7, 7, 7, 7, 7, 7], [7]),
        ([3], []),
    ],
)
def test_what_followed_the_same_tokens_before(text: list[int], expected: list[int]) -> None:
    assert continuation(np.array(text)).tolist() == expected


def test_a_draft_comes_from_whoever_knows_best() -> None:
    predicted = Draft.of(np.array([3, 3]), 0.5)
    guesses = Guesses([np.array([1, 2, 5]), np.array([1, 4, 6])], np.array([9, 9, 1, 4, 7, 8, 0, 9, 9, 1]))
    assert guesses.draft(np.array([1]), predicted).ids.tolist() == [2, 5]
    assert guesses.draft(np.array([1, 4]), predicted).ids.tolist() == [6]
    assert guesses.draft(np.array([2]), predicted) is predicted
    assert guesses.draft(np.array([4]), NO_DRAFT).ids.tolist() == [7, 8, 0, 9, 9, 1, 4]
    assert len(guesses.draft(np.array([6]), NO_DRAFT)) == 0


def test_an_answer_is_first_drafted_from_the_one_before_it() -> None:
    """Whatever followed the prompt's last token before, the latest time, be it a single token that agrees."""
    nothing = np.arange(0)
    assert Guesses((), np.array([5, 1, 2, 3, 6, 1, 7, 8, 1])).draft(nothing, NO_DRAFT).ids.tolist() == [7, 8, 1]
    assert Guesses((), np.array([8, 1, 2, 3, 6, 1, 7, 8, 1])).draft(nothing, NO_DRAFT).ids.tolist()[:3] == [2, 3, 6]
    assert len(Guesses((), np.array([5, 6, 7])).draft(nothing, NO_DRAFT)) == 0
    given = Guesses([np.array([4, 4])], np.array([5, 1, 2, 3, 6, 1, 7, 8, 1]))
    assert given.draft(nothing, NO_DRAFT).ids.tolist() == [4, 4]


@pytest.mark.parametrize("max_nll", [0.05, 0.7, 3.0, 12.0])
def test_whatever_is_over_the_threshold_may_follow(max_nll: float) -> None:
    """Sure tokens and doubtful ones, behind prefixes that have used up more or less of what they may."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(300, 16)) * rng.choice([0.1, 2, 30], size=(300, 1))).float()
    log_probs = logits.log_softmax(dim=-1)
    feeds = [Feed(0, row(), Branch(np.arange(2), np.array([-share * max_nll])), 60) for share in (0, 0.2, 0.5, 0.9, 1)]
    reading = Threshold(max_nll).read(log_probs, feeds)
    least = torch.tensor([feed.branch.nll - max_nll for feed in feeds]).repeat_interleave(60)
    assert reading.best.tolist() == log_probs.argmax(dim=-1).tolist()
    n_found = 0
    for token, values in enumerate(log_probs):
        found = dict(reading.followers(token))
        likely = (values > least[token]).nonzero().flatten().tolist()
        assert set(likely) <= found.keys()
        assert all(found[i] == pytest.approx(float(values[i]), abs=1e-6) for i in found)
        assert all(values[i] > least[token] - 2e-3 or i == reading.best[token] for i in found)
        n_found += len(likely)
    assert n_found > 20


def row(*drafts: float, n_unfed: int = 1) -> Row:
    """A row with one open branch, whose draft has these chances."""
    branch = Branch(np.arange(n_unfed), np.zeros(n_unfed - 1))
    branch.draft = Draft(np.arange(len(drafts)), np.log(np.array(drafts)))
    guesses = Guesses((), np.arange(3), n_right=10**9)
    return Row(0, np.arange(3), 99, guesses, open=[branch])


def test_the_likeliest_tokens_are_fed() -> None:
    rows = [row(0.9, 0.9, 0.1, 1.0), row(0.2), row(n_unfed=5)]
    rows[1].open.append(row(0.95, 0.9).open[0])
    feeds = plan(rows, [99, 99, 99], step_tokens=4, max_width=4)
    assert [(feed.number, feed.n_tokens) for feed in feeds] == [(0, 4), (1, 1), (1, 3), (2, 4)]
    assert [feed.n_tokens for feed in plan(rows, [1, 2, 3], 4, 4)] == [1, 1, 1, 3]


def test_a_width_is_worth_its_cost() -> None:
    sure, doubtful = np.ones(60), np.cumprod(np.full(60, 0.5))
    assert best_width([sure], 32, 999) == 64
    assert best_width([sure, doubtful], 8, 999) < 64
    assert best_width([doubtful], 1, 999) == 2
    assert best_width([doubtful], 10**6, 999) >= 16  # where a forward costs much, tokens are cheap
    assert best_width([sure], 32, 50) == 48


def test_drafts_that_were_wrong_are_trusted_less() -> None:
    guesses = Guesses((), np.arange(3))
    values = [Branch(np.arange(1), np.zeros(0), draft=Draft.of(np.arange(20))).values(guesses.trust).sum()]
    for n_right, wrong in ((0, True), (0, True), (40, False)):
        guesses.record(n_right, wrong)
        values.append(Branch(np.arange(1), np.zeros(0), draft=Draft.of(np.arange(20))).values(guesses.trust).sum())
    assert values[0] > values[1] > values[2] < values[3]


def test_a_sliding_window_is_refused_where_it_would_matter() -> None:
    model = replace(undecided_model("llama"), network=_mistral(window=40))
    short = random_prompts([20, 30], seed=1)
    expected = [search_slowly(model, prompt, 6, Search(0.05).max_nll) for prompt in short]
    assert_all_found(search(HFEngine(model), [6, 6], Search(0.05), prompts=short), expected, 0.05)
    with pytest.raises(EngineError, match="the longest has 41 tokens with its answer, expected at most 40"):
        search(HFEngine(model), [21, 6], Search(0.05), prompts=short)
