"""HFEngine: neither left padding, nor batching, nor the cache, nor rows that leave a batch change an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from models import LONGEST, assert_same, generate, generate_slowly, lively_model, random_prompts

from arc_kaggle.budget import Deadline
from arc_kaggle.engines import hf
from arc_kaggle.engines.base import Completion
from arc_kaggle.engines.hf import HFEngine
from arc_kaggle.model import LoadedModel

LENGTHS = [1, 200, 2, 63, 64, 65, 7, 130, 31, 100, 3, 90, 17, 128, 5, 44]
LIMITS = [12, 9, 30, 12, 12, 3, 20, 12, 0, 30, 12, 1, 12, 12, 25, 12]
PROMPTS = random_prompts(LENGTHS)
MODELS = [("llama", 0), ("llama", 1), ("llama", 2), ("qwen2", 0), ("gpt2", 0), ("gpt2", 1)]
TOLERANCE = 1e-4


@pytest.fixture(params=MODELS, ids=lambda item: f"{item[0]}-{item[1]}", scope="module")
def model(request: pytest.FixtureRequest) -> LoadedModel:
    kind, seed = request.param
    return lively_model(seed, kind)


@pytest.fixture(scope="module")
def expected(model: LoadedModel) -> list[Completion]:
    """What the slow definition answers to `PROMPTS`."""
    return [generate_slowly(model, prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]


def assert_all_same(found: Sequence[Completion], expected: Sequence[Completion]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, TOLERANCE)


@pytest.mark.parametrize("bucket", [1, 7, 64])
@pytest.mark.parametrize("tokens_per_batch", [1, 500, 1200, 65536])
def test_batched_equals_the_slow_definition(
    model: LoadedModel, expected: list[Completion], bucket: int, tokens_per_batch: int
) -> None:
    assert_all_same(generate(HFEngine(model, tokens_per_batch, bucket), PROMPTS, LIMITS), expected)


def test_batched_equals_single(model: LoadedModel) -> None:
    engine = HFEngine(model)
    limits = [25] * len(PROMPTS)
    single = [generate(engine, [prompt], [25])[0] for prompt in PROMPTS]
    assert_all_same(generate(engine, PROMPTS, limits), single)


def test_pad_tokens_in_a_prompt_are_tokens(model: LoadedModel) -> None:
    prompts = [np.full(length, model.pad_id) for length in (1, 2, 9)] + PROMPTS[:3]
    expected = [generate_slowly(model, prompt, 8) for prompt in prompts]
    assert_all_same(generate(HFEngine(model), prompts, [8] * 6), expected)


@pytest.mark.parametrize("n_short", [1, 7, 8, 14])
def test_rows_that_leave_early_change_nothing(
    model: LoadedModel, n_short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From half of a batch on, the rows that are through are dropped from its cache."""
    kept: list[int] = []
    keep = hf._Decoding.keep

    def spy(state: hf._Decoding, rows: list[int]) -> None:
        kept.append(len(rows))
        keep(state, rows)

    monkeypatch.setattr(hf._Decoding, "keep", spy)
    limits = [3 if i * 7 % 16 < n_short else 40 for i in range(16)]
    found = generate(HFEngine(model), PROMPTS, limits)
    if n_short == 8:
        assert kept
    assert kept == sorted(kept, reverse=True)
    assert_all_same(found, [generate_slowly(model, p, n) for p, n in zip(PROMPTS, limits, strict=True)])


def spy_on_batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Lengths of the prompts of every batch that is decoded from here on."""
    seen: list[list[int]] = []
    begin: Callable[..., None] = hf._Decoding.__init__

    def spy(state: hf._Decoding, model: LoadedModel, prompts: Sequence[Any], bucket: int) -> None:
        seen.append([len(prompt) for prompt in prompts])
        begin(state, model, prompts, bucket)

    monkeypatch.setattr(hf._Decoding, "__init__", spy)
    return seen


@pytest.mark.parametrize("tokens_per_batch", [300, 1000, 3000])
def test_a_batch_stays_within_its_tokens(tokens_per_batch: int) -> None:
    """Its slots are its rows times its longest prompt, padded, and its longest answer, whichever row has it."""
    rows = [hf._Row(i, prompt, 200 if i % 5 == 0 else 20) for i, prompt in enumerate(PROMPTS)]
    batches = HFEngine(lively_model(0), tokens_per_batch, bucket=64)._batches(rows)
    assert sorted(row.position for batch in batches for row in batch) == list(range(len(PROMPTS)))
    for batch in batches:
        prompt, answer = max(len(row.prompt) for row in batch), max(row.limit for row in batch)
        assert len(batch) * (-(-prompt // 64) * 64 + answer) <= tokens_per_batch or len(batch) == 1


def test_one_batch_where_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = spy_on_batches(monkeypatch)
    generate(HFEngine(lively_model(0)), PROMPTS, LIMITS)
    assert [len(batch) for batch in batches] == [len(PROMPTS)]


def test_completions_come_as_soon_as_they_are_known() -> None:
    engine, model = HFEngine(lively_model(1)), lively_model(1)
    expected = [generate_slowly(model, prompt, 40) for prompt in PROMPTS]
    deadline = Deadline.never()
    order = [len(completion.ids) for _, completion in engine.generate(PROMPTS, [40] * len(PROMPTS), deadline)]
    assert order == sorted(len(completion.ids) for completion in expected)


def shifted(ids: Any, positions: Any, mask: Any) -> tuple[Any, Any]:
    """All positions count the padding: off by one number in each row, the same for prompt and answer."""
    return positions + (mask == 0).sum(dim=1, keepdim=True), mask


def answer_shifted(ids: Any, positions: Any, mask: Any) -> tuple[Any, Any]:
    """The answer's positions count the padding, the prompt's do not."""
    return (positions if ids.shape[1] > 1 else torch.full_like(positions, mask.shape[1] - 1)), mask


def padding_seen(ids: Any, positions: Any, mask: Any) -> tuple[Any, Any]:
    """Padding is attended to."""
    return positions, torch.ones_like(mask)


BREAKS = [("gpt2", shifted), ("gpt2", answer_shifted), ("llama", answer_shifted), ("llama", padding_seen)]


@pytest.mark.parametrize(("kind", "broken"), BREAKS, ids=lambda value: getattr(value, "__name__", value))
def test_these_tests_see_wrong_padding(kind: str, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model(0, kind)
    expected = [generate_slowly(model, prompt, 20) for prompt in PROMPTS]
    network = model.network.forward

    def forward(input_ids: Any, attention_mask: Any, position_ids: Any, **options: Any) -> Any:
        positions, mask = broken(input_ids, position_ids, attention_mask)
        positions = positions.clamp(max=LONGEST - 1)
        return network(input_ids=input_ids, attention_mask=mask, position_ids=positions, **options)

    monkeypatch.setattr(model.network, "forward", forward)
    with pytest.raises(AssertionError):
        assert_all_same(generate(HFEngine(model), PROMPTS, [20] * len(PROMPTS)), expected)
