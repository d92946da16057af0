"""HFEngine's completions: no padding, batch, cache, row that leaves, draft or adapter changes an answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import VOCABULARY, assert_same, generate, generate_slowly, lively_model, random_prompts
from torch.nn.attention import SDPBackend, sdpa_kernel

from arc_kaggle.config.answer import Search
from arc_kaggle.config.engines import HFConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.base import Completion
from arc_kaggle.engines.hf import cache
from arc_kaggle.engines.hf.batching import (
    GPU_COSTS,
    READ_TOKENS,
    batches,
    bytes_at_hand,
    costs_of,
    max_width,
    n_slots_within,
    slot_bytes,
)
from arc_kaggle.engines.hf.cache import SlotCache
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.hf.forward import Forward
from arc_kaggle.errors import EngineError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.new_model import new_model
from arc_kaggle.run.worker.engine_setup import make_engine
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

LENGTHS = [1, 200, 2, 63, 64, 65, 7, 130, 31, 100, 3, 90, 17, 128, 5, 44]
LIMITS = [12, 9, 30, 12, 12, 3, 20, 12, 0, 30, 12, 1, 12, 12, 25, 12]
PROMPTS = random_prompts(LENGTHS)
MODELS = [("llama", 0), ("llama", 1), ("qwen2", 0), ("gpt2", 0), ("grid alone", 0)]
TOLERANCE = 1e-4
OF_THE_COMPILER = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(params=MODELS, ids=lambda item: f"{item[0]}-{item[1]}", scope="module")
def model(request: pytest.FixtureRequest) -> LoadedModel:
    kind, seed = request.param
    return lively_model(seed, kind)


@pytest.fixture(scope="module")
def longest(model: LoadedModel) -> list[Completion]:
    """What the slow definition answers to `PROMPTS` in 40 tokens; in fewer it answers the beginning of it."""
    return [generate_slowly(model, prompt, 40) for prompt in PROMPTS]


def cut(longest: Sequence[Completion], limits: Sequence[int]) -> list[Completion]:
    return [
        Completion(one.ids[:limit], one.log_probs[:limit], one.ended and len(one.ids) <= limit)
        for one, limit in zip(longest, limits, strict=True)
    ]


@pytest.fixture(scope="module")
def expected(longest: list[Completion]) -> list[Completion]:
    return cut(longest, LIMITS)


def assert_all_same(found: Sequence[Completion], expected: Sequence[Completion]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, TOLERANCE)


@pytest.mark.parametrize(("tokens_per_batch", "bucket"), [(1, 1), (500, 7), (1200, 64), (65536, 1), (65536, 64)])
def test_batched_equals_the_slow_definition(
    model: LoadedModel, expected: list[Completion], tokens_per_batch: int, bucket: int
) -> None:
    assert_all_same(generate(HFEngine(model, tokens_per_batch, bucket), PROMPTS, LIMITS), expected)


def test_pad_tokens_in_a_prompt_are_tokens(model: LoadedModel) -> None:
    prompts = [np.full(length, model.pad_id) for length in (1, 2, 9)] + PROMPTS[:3]
    expected = [generate_slowly(model, prompt, 8) for prompt in prompts]
    assert_all_same(generate(HFEngine(model), prompts, [8] * 6), expected)


@pytest.mark.parametrize("n_short", [1, 7, 8, 14])
def test_rows_that_leave_early_change_nothing(
    model: LoadedModel, longest: list[Completion], n_short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From half of a batch on, the rows that are through are dropped from its cache."""
    kept: list[int] = []
    keep = SlotCache.keep

    def spy(memory: SlotCache, rows: Sequence[int]) -> None:
        kept.append(len(rows))
        keep(memory, rows)

    monkeypatch.setattr(SlotCache, "keep", spy)
    limits = [3 if i * 7 % 16 < n_short else 40 for i in range(16)]
    found = generate(HFEngine(model), PROMPTS, limits)
    if n_short >= 8:
        assert kept
    assert kept == sorted(kept, reverse=True)
    assert_all_same(found, cut(longest, limits))


@pytest.mark.parametrize("max_slots", [300, 1000, 3000])
def test_a_batch_stays_within_its_slots(max_slots: int) -> None:
    """Its slots are its rows times its longest prompt and its longest tree, whichever row has it."""
    prompts, trees = LENGTHS, [200 if i % 5 == 0 else 20 for i in range(len(LENGTHS))]
    found = list(batches(prompts, trees, max_slots))
    assert sorted(i for batch in found for i in batch) == list(range(len(prompts)))
    sizes = [len(batch) * (max(prompts[i] for i in batch) + max(trees[i] for i in batch)) for batch in found]
    assert all(size <= max_slots or len(batch) == 1 for size, batch in zip(sizes, found, strict=True))
    for one, two in pairwise(found):  # and it is as large as can be
        grown = [*one, two[0]]
        assert len(grown) * (max(prompts[i] for i in grown) + max(trees[i] for i in grown)) > max_slots


def test_one_batch_where_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    begin: Callable[..., None] = SlotCache.__init__

    def spy(memory: SlotCache, n_layers: int, lengths: Sequence[int], *args: Any) -> None:
        seen.append(len(lengths))
        begin(memory, n_layers, lengths, *args)

    monkeypatch.setattr(SlotCache, "__init__", spy)
    generate(HFEngine(lively_model(0)), PROMPTS, LIMITS)
    assert seen == [len(PROMPTS)]


def test_completions_come_as_soon_as_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    n_forwards, feed = [0], Forward.feed

    def spy(forward: Forward, *args: Any) -> Any:
        n_forwards[0] += 1
        return feed(forward, *args)

    monkeypatch.setattr(Forward, "feed", spy)
    limits = [0, 1, 40] * 5 + [40]
    seen = {}
    for position, completion in HFEngine(lively_model(1)).generate(PROMPTS, limits, Deadline.never()):
        seen.setdefault(n_forwards[0], []).append((limits[position], len(completion.ids)))
    assert {limit for limit, _ in seen[0]} == {0}
    assert {(limit, n) for limit, n in seen[1] if limit == 1} == {(1, 1)}
    assert len(seen) > 5
    assert max(seen) == n_forwards[0]


def test_slots_take_as_many_bytes_as_planned(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    begin = cache.SlotLayer.lazy_initialization

    def spy(layer: cache.SlotLayer, *states: torch.Tensor) -> None:
        begin(layer, *states)
        sizes.append(layer.keys.nbytes + layer.values.nbytes)

    monkeypatch.setattr(cache.SlotLayer, "lazy_initialization", spy)
    for autocast in (None, torch.bfloat16):
        sizes.clear()
        generate(HFEngine(replace(model, autocast=autocast), bucket=64), PROMPTS[:4], [5] * 4)
        n_slots = 4 * (256 + 5 + 1)  # the longest prompt has 200 tokens
        assert sum(sizes) == n_slots * slot_bytes(model.network, autocast or torch.float32)


def test_a_batch_is_planned_from_the_memory_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc_kaggle.engines.hf.batching.memory_ceiling", lambda: 8e6)
    room = bytes_at_hand(torch.device("cpu"), n_workers=2)
    assert room == 2e6
    network = lively_model(0).network
    n_slots = n_slots_within(network, torch.float32, 10**9, room)
    assert n_slots * slot_bytes(network, torch.float32) <= room < (n_slots + 1) * slot_bytes(network, torch.float32)
    assert len(list(batches([400] * 9, [100] * 9, n_slots))) == -(-9 // (n_slots // 500))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10e9, 24e9))
    assert bytes_at_hand(torch.device("cuda"), n_workers=4) == 5e9  # a worker has a GPU to itself


def test_a_large_vocabulary_makes_narrow_forwards() -> None:
    network: Any = lively_model(0).network
    costs = GPU_COSTS
    narrow, wide = max_width(network, 64, costs), max_width(network, 1, costs)
    assert (narrow, wide) == (256, 16384)
    network.config.vocab_size = 151_936
    assert 2 <= max_width(network, 64, costs) < narrow
    assert max_width(network, 64, costs) * 64 * 151_936 * 12 <= 2**30
    assert max_width(network, 10**6, costs) == 2


def test_the_cost_of_a_step_in_tokens_is_that_of_the_calls_of_a_small_network_and_of_the_weights_of_a_large_one() -> (
    None
):
    small, large = lively_model(0).network, lively_model(0).network
    assert costs_of(small).step > 1000
    large.set_input_embeddings(torch.nn.Embedding(3, 1))
    large.extra = torch.nn.Parameter(torch.zeros(10**8))
    assert costs_of(large).step == READ_TOKENS + 1


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_keys_and_values_that_heads_share_are_not_repeated(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four heads of `qwen2` two share theirs each; those of `llama` have their own."""
    model, heads = lively_model(0, kind), set()
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(query: Any, key: Any, value: Any, **options: Any) -> Any:
        if options.get("attn_mask") is not None:
            heads.add(query.shape[1])
        return attend(query, key, value, **options)

    expected = [generate_slowly(model, prompt, 20) for prompt in PROMPTS]
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    assert_all_same(generate(HFEngine(model), PROMPTS, [20] * len(PROMPTS)), expected)
    assert heads == {2 if kind == "qwen2" else model.network.config.num_attention_heads}
    assert model.network.config._attn_implementation == "sdpa"


def test_attention_that_takes_no_mask_over_slots_is_refused() -> None:
    model = lively_model(0)
    network: Any = model.network
    network.config._attn_implementation = "flex_attention"
    with pytest.raises(EngineError, match="found attention by 'flex_attention', expected sdpa or eager"):
        generate(HFEngine(model), PROMPTS[:1], [3])
    network.config._attn_implementation = "sdpa"
    network.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(EngineError, match="found layers of linear_attention, expected full or sliding attention"):
        generate(HFEngine(model), PROMPTS[:1], [3])


def adapted(model: LoadedModel) -> LoadedModel:
    """With the adapters `one` and `two`, whose weights are random and large."""
    import peft

    modules = ["q_proj", "v_proj", "down_proj", "lm_head"]
    config = peft.LoraConfig(r=4, target_modules=modules, init_lora_weights=False)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings")  # each side has factors of its own
        network = peft.get_peft_model(model.network, config, adapter_name="one")
        network.add_adapter("two", config)
    return replace(model, network=network.eval())


@pytest.fixture(scope="module")
def with_adapters() -> LoadedModel:
    return adapted(lively_model(0))


NAMES = ["one", "two", "__base__", "two"] * 4


def single(model: LoadedModel, ask: Callable[[list[TokenIds], list[int]], Iterator[tuple[int, Any]]]) -> list[Any]:
    """What every prompt is answered by its own adapter alone."""
    network: Any = model.network
    found: dict[int, Any] = {}
    for name in sorted(set(NAMES)):
        rows = [i for i, own in enumerate(NAMES) if own == name]
        prompts = [PROMPTS[i] for i in rows]
        if name == "__base__":
            with network.disable_adapter():
                answers = list(ask(prompts, rows))
        else:
            network.set_adapter(name)
            answers = list(ask(prompts, rows))
        found |= {rows[position]: answer for position, answer in answers}
    return [found[i] for i in range(len(NAMES))]


def test_rows_of_several_adapters_equal_those_of_one(with_adapters: LoadedModel) -> None:
    engine, never = HFEngine(with_adapters), Deadline.never()
    alone = single(with_adapters, lambda prompts, rows: engine.generate(prompts, [20] * len(rows), never))
    mixed = dict(engine.generate(PROMPTS, [20] * len(NAMES), never, adapters=NAMES))
    assert_all_same([mixed[i] for i in range(len(NAMES))], alone)
    assert len({tuple(each.ids.tolist()) for each in alone}) > 8
    swapped = dict(engine.generate(PROMPTS, [20] * len(NAMES), never, adapters=NAMES[::-1]))
    assert sum(swapped[i].ids.tolist() != mixed[i].ids.tolist() for i in range(len(NAMES))) > 5


def test_searches_and_scores_of_several_adapters_equal_those_of_one(with_adapters: LoadedModel) -> None:
    engine, never, limits = HFEngine(with_adapters), Deadline.never(), [6] * len(NAMES)
    wide = Search(0.02)
    alone = single(with_adapters, lambda prompts, rows: engine.search(prompts, limits[: len(rows)], never, wide))
    mixed = dict(engine.search(PROMPTS, limits, never, wide, adapters=NAMES))
    for i, found in enumerate(alone):
        assert mixed[i].nodes == found.nodes
        assert_all_same(mixed[i].completions, found.completions)
    assert sum(len(found.completions) for found in alone) > 10
    candidates = [random_prompts([3, 5, 5], seed=1)] * len(NAMES)
    scored = single(with_adapters, lambda prompts, rows: engine.score(prompts, candidates[: len(rows)], never))
    together = dict(engine.score(PROMPTS, candidates, never, adapters=NAMES))
    np.testing.assert_allclose([together[i] for i in range(len(NAMES))], scored, atol=TOLERANCE)


def test_adapters_that_are_not_there_are_refused(with_adapters: LoadedModel) -> None:
    never = Deadline.never()
    with pytest.raises(EngineError, match=r"found \['three'\], expected names that the network has: .*'one', 'two'"):
        list(HFEngine(with_adapters).generate(PROMPTS[:1], [3], never, adapters=["three"]))
    with pytest.raises(EngineError, match="found 1 names for 2 prompts"):
        list(HFEngine(with_adapters).generate(PROMPTS[:2], [3, 3], never, adapters=["one"]))
    with pytest.raises(EngineError, match=r"found \['one'\], expected names that the network has: \['__base__'\]"):
        list(HFEngine(lively_model(0)).score(PROMPTS[:1], [PROMPTS[:1]], never, adapters=["one"]))


def shifted(positions: Any, mask: Any) -> tuple[Any, Any]:
    """All positions are off by one, in prompts and answers alike."""
    return positions + 1, mask


def answer_shifted(positions: Any, mask: Any) -> tuple[Any, Any]:
    """Those of the answer are."""
    return positions + (mask is not None), mask


def rejected_seen(positions: Any, mask: Any) -> tuple[Any, Any]:
    """Whatever lies in the cache is attended to, wrong drafts and padding among it."""
    return positions, None if mask is None else torch.ones_like(mask)


def future_seen(positions: Any, mask: Any) -> tuple[Any, Any]:
    """Drafted tokens see those behind them."""
    return positions, None if mask is None else mask.any(dim=2, keepdim=True).expand_as(mask)


def ancestors_hidden(positions: Any, mask: Any) -> tuple[Any, Any]:
    """An answer does not see how it began: only the prompt, and what is fed with it."""
    if mask is not None:
        mask = mask.clone()
        mask[..., 1:3] = False
    return positions, mask


BREAKS = [
    ("gpt2", shifted),
    ("gpt2", answer_shifted),
    ("llama", answer_shifted),
    ("llama", rejected_seen),
    ("llama", future_seen),
    ("llama", ancestors_hidden),
]


@pytest.mark.parametrize(("kind", "broken"), BREAKS, ids=lambda value: getattr(value, "__name__", value))
def test_these_tests_see_wrong_masks(kind: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model(0, kind)
    expected = [generate_slowly(model, prompt, 20) for prompt in PROMPTS]
    drafts = [[np.concatenate([[5], each.ids[1:]])] for each in expected]
    network: Any = model.network
    forward = network.forward

    def wrong(attention_mask: Any, position_ids: Any, **options: Any) -> Any:
        position_ids, attention_mask = broken(position_ids, attention_mask)
        return forward(attention_mask=attention_mask, position_ids=position_ids, **options)

    def ask() -> list[Completion]:
        found = dict(HFEngine(model).generate(PROMPTS, [20] * len(PROMPTS), Deadline.never(), drafts=drafts))
        return [found[i] for i in range(len(PROMPTS))]

    assert_all_same(ask(), expected)
    monkeypatch.setattr(network, "forward", wrong)
    with pytest.raises(AssertionError):
        assert_all_same(ask(), expected)


def test_a_prefill_of_whole_prompts_has_no_mask_and_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that torch's flash kernel takes it, which on a GPU knows no mask."""
    monkeypatch.setattr("arc_kaggle.engines.hf.forward.prefix_pays", lambda n_shared, n_tokens, width: False)
    prefill, attend = Forward.prefill, torch.nn.functional.scaled_dot_product_attention
    logits: list[int] = []
    masks: list[tuple[Any, Any]] = []

    def spy(*states: Any, **options: Any) -> Any:
        masks.append((options["attn_mask"], options["is_causal"]))
        return attend(*states, **options)

    def flash_alone(forward: Forward, *args: Any) -> None:
        hook = model.network.get_output_embeddings().register_forward_hook(lambda *out: logits.append(out[-1].numel()))
        with monkeypatch.context() as patch, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
            prefill(forward, *args)
        hook.remove()

    model = lively_model(0)
    expected = generate(HFEngine(model), PROMPTS, LIMITS)
    monkeypatch.setattr(Forward, "prefill", flash_alone)
    assert_all_same(generate(HFEngine(model), PROMPTS, LIMITS), expected)
    assert (set(masks), set(logits)) == ({(None, True)}, {0})


@OF_THE_COMPILER
def test_compiled_steps_change_nothing_and_are_compiled_seldom() -> None:
    from torch._dynamo.utils import counters

    model = new_model(32, 1, seed=0)  # one layer: the compiler needs seconds for each
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(10 if parameter.ndim >= 2 else 1)
    never, drafts = Deadline.never(), [[prompt] for prompt in PROMPTS]
    plain, engine = HFEngine(model), HFEngine(model, config=HFConfig(compile=True))
    counters.clear()
    assert_all_same(generate(engine, PROMPTS, LIMITS), generate(plain, PROMPTS, LIMITS))
    limits = [10] * len(PROMPTS)
    found, expected = (dict(each.search(PROMPTS, limits, never, Search(0.01))) for each in (engine, plain))
    for i, one in expected.items():
        assert found[i].nodes == one.nodes
        assert_all_same(found[i].completions, one.completions)
    found, expected = (dict(each.score(PROMPTS, drafts, never)) for each in (engine, plain))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), atol=TOLERANCE)
    assert 1 <= counters["stats"]["unique_graphs"] <= 3  # whatever rows, widths and slots


@OF_THE_COMPILER
def test_a_run_compiles_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    for chosen in (HFConfig(), HFConfig(compile=True)):
        config = SolveConfig("arc1:training", tmp_path, recipe="none", engine="hf", hf=chosen)
        engine, _ = make_engine(lively_model(0), config)
        assert isinstance(engine, HFEngine)
        assert (engine.compiled is not None) is chosen.compile


def test_half_precision_agrees_but_for_near_ties() -> None:
    model = lively_model(0)
    exact = generate(HFEngine(model), PROMPTS, [20] * len(PROMPTS))
    rough = generate(HFEngine(replace(model, autocast=torch.bfloat16)), PROMPTS, [20] * len(PROMPTS))
    same = [one.ids[: len(two.ids)].tolist() == two.ids.tolist() for one, two in zip(exact, rough, strict=True)]
    assert sum(same) >= 8
    assert all(((each.ids >= 0) & (each.ids < VOCABULARY)).all() for each in rough)
