"""Shared-prefix scoring against full forwards of every prompt with every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from models import TickingClock, lively_model, random_prompts

from arc_kaggle.engines.base import Nlls
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.hf.forward import Forward
from arc_kaggle.engines.hf.scoring import build_tries
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import TokenIds

LENGTHS = [1, 200, 2, 63, 64, 90, 7, 33]
PROMPTS = random_prompts(LENGTHS)
TOLERANCE = 1e-4


def related(n: int, seed: int, n_tokens: int = 30) -> list[TokenIds]:
    """Candidates that begin alike, as the answers to one query do; some are prefixes of others, some come twice."""
    rng = np.random.default_rng(seed)
    candidates = [rng.integers(16, size=n_tokens)]
    while len(candidates) < n:
        other = candidates[rng.integers(len(candidates))].copy()
        other[rng.integers(len(other)) :] = rng.integers(16)
        candidates.append(other[: rng.integers(1, len(other) + 1)] if rng.random() < 0.3 else other)
    return [*candidates[: n - 1], candidates[0]]


CANDIDATES = [related(1 + 5 * (i % 3), seed=i) for i in range(len(PROMPTS))]
CANDIDATES[4] = []
CANDIDATES[5] = [np.array([], dtype=np.int64), np.array([3]), np.array([3, 2])]


@pytest.fixture(params=["llama", "qwen2", "gpt2", "grid alone"], scope="module")
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return lively_model(0, request.param)


@torch.inference_mode()
def score_slowly(model: LoadedModel, prompt: TokenIds, candidate: TokenIds) -> float:
    """The definition: one full forward of prompt and candidate."""
    network: Any = model.network
    ids = torch.tensor(np.concatenate([prompt, candidate])[None])
    log_probs = network(input_ids=ids, use_cache=False).logits[0].double().log_softmax(dim=-1)  # (time, vocab)
    behind = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
    return -float(log_probs[behind, ids[0, len(prompt) :]].sum())


@pytest.fixture(scope="module")
def expected(model: LoadedModel) -> list[list[float]]:
    return [[score_slowly(model, p, ids) for ids in own] for p, own in zip(PROMPTS, CANDIDATES, strict=True)]


def score(engine: HFEngine, deadline: Deadline | None = None) -> list[Nlls]:
    found = list(engine.score(PROMPTS, CANDIDATES, deadline or Deadline.never()))
    assert sorted(position for position, _ in found) == list(range(len(PROMPTS)))
    return [nlls for _, nlls in sorted(found, key=lambda item: item[0])]


def assert_close(found: Sequence[Nlls], expected: Sequence[Sequence[float]], tolerance: float = TOLERANCE) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=tolerance)


@pytest.mark.parametrize(("tokens_per_batch", "bucket"), [(65536, 64), (1, 1), (300, 7), (1500, 64)])
def test_scores_equal_full_forwards(
    model: LoadedModel, expected: list[list[float]], tokens_per_batch: int, bucket: int
) -> None:
    assert_close(score(HFEngine(model, tokens_per_batch, bucket)), expected)


def test_in_double_precision_scores_are_equal() -> None:
    model = lively_model(1)
    model = replace(model, network=model.network.double())
    expected = [[score_slowly(model, p, ids) for ids in own] for p, own in zip(PROMPTS, CANDIDATES, strict=True)]
    assert_close(score(HFEngine(model)), expected, 1e-9)


def test_prompts_and_common_beginnings_are_fed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = lively_model(0).network
    model, forward, n_fed = replace(lively_model(0), network=network), network.forward, []

    def spy(input_ids: Any, **options: Any) -> Any:
        n_fed.append(input_ids.numel())
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(network, "forward", spy)
    prompt, candidates = random_prompts([200])[0], [*related(16, seed=0), *related(16, seed=0)]
    list(HFEngine(model, bucket=1).score([prompt], [candidates], Deadline.never()))
    (trie,) = build_tries(int(prompt[-1]), candidates, 10**6)
    assert 2 * trie.n_tokens < sum(map(len, candidates))
    assert len(prompt) - 1 + trie.n_tokens <= sum(n_fed) <= len(prompt) - 1 + 2 * trie.n_tokens


@pytest.mark.parametrize("max_width", [2, 8])
def test_trees_go_through_window_by_window(
    model: LoadedModel, expected: list[list[float]], max_width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, feed = [], Forward.logits

    def spy(forward: Forward, spans: Any, width: int) -> Any:
        sizes.append(width * len(forward.memory.starts))
        return feed(forward, spans, width)

    monkeypatch.setattr(Forward, "logits", spy)
    monkeypatch.setattr("arc_kaggle.engines.hf.engine.max_width", lambda *_: max_width)
    assert_close(score(HFEngine(model)), expected)
    assert len(sizes) > 5
    assert max(sizes) <= max_width * len(PROMPTS)


def test_rows_that_are_through_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores stay; a long trie beside three short ones goes on by itself."""
    model, n_rows, feed = lively_model(0), [], Forward.logits

    def spy(forward: Forward, spans: Any, width: int) -> Any:
        n_rows.append(len(forward.memory.starts))
        return feed(forward, spans, width)

    monkeypatch.setattr(Forward, "logits", spy)
    monkeypatch.setattr("arc_kaggle.engines.hf.engine.max_width", lambda *_: 8)
    prompts = random_prompts([20, 30, 25, 22])
    candidates = [random_prompts([n] * 3, seed=n) for n in (4, 60, 5, 6)]
    found = dict(HFEngine(model).score(prompts, candidates, Deadline.never()))
    expected = [[score_slowly(model, p, ids) for ids in own] for p, own in zip(prompts, candidates, strict=True)]
    assert_close([found[i] for i in range(4)], expected)
    assert n_rows[0] == 4 and n_rows[-1] == 1


def test_a_tree_has_every_common_beginning_once() -> None:
    candidates = [np.array(ids) for ids in ([5, 6, 7], [5, 6, 8, 9], [5, 6, 7], [4], [5, 6])]
    (trie,) = build_tries(1, candidates, 99)
    fed = sorted((twig.path.tolist(), twig.first, twig.ids.tolist()) for twig in trie.twigs if len(twig.ids))
    assert fed == [([], 0, [1]), ([0], 1, [5]), ([0, 1], 2, [6]), ([0, 1, 2], 3, [8])]
    assert trie.n_tokens == 4
    assert len(trie.reads.ids) == sum(map(len, candidates))


@pytest.mark.parametrize("max_tokens", [1, 31, 50, 10**6])
def test_trees_are_split_where_there_is_no_room(max_tokens: int) -> None:
    candidates = related(20, seed=3)
    tries = build_tries(1, candidates, max_tokens)
    assert all(trie.n_tokens <= max_tokens or len(set(trie.reads.owners.tolist())) == 1 for trie in tries)
    owners = [set(trie.reads.owners.tolist()) for trie in tries]
    assert sorted(i for each in owners for i in each) == list(range(20))
    assert (len(tries) == 1) is (max_tokens > 50)


def test_keys_and_values_stay_within_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates of a long list come in several trees, behind a prompt that is computed once."""
    model, used, prefills = lively_model(0), [], []
    feed, prefill = Forward.logits, Forward.prefill

    def spy(forward: Forward, *args: Any) -> Any:
        used.append(forward.memory.target.n_rows * forward.memory.target.n_slots)
        return feed(forward, *args)

    def count(forward: Forward, *args: Any) -> None:
        prefills.append(forward)
        prefill(forward, *args)

    monkeypatch.setattr(Forward, "logits", spy)
    monkeypatch.setattr(Forward, "prefill", count)
    prompt, candidates = random_prompts([100])[0], random_prompts([40] * 12, seed=5)
    ((_, nlls),) = HFEngine(model, tokens_per_batch=256).score([prompt], [candidates], Deadline.never())
    assert_close([nlls], [[score_slowly(model, prompt, ids) for ids in candidates]])
    assert max(used) <= 256
    assert len(prefills) == 1


@pytest.mark.parametrize("seconds", [0, 2, 4, 6])
def test_what_the_deadline_came_before_is_not_a_number(seconds: int) -> None:
    engine = HFEngine(lively_model(0), tokens_per_batch=300)
    whole = score(engine)
    cut = score(engine, Deadline.after(seconds, TickingClock()))
    for one, other in zip(cut, whole, strict=True):
        known = ~np.isnan(one)
        np.testing.assert_allclose(one[known], other[known], atol=TOLERANCE)
    assert np.isnan(np.concatenate(cut)).any()
    assert (len(cut[0]) == len(whole[0])) and not np.isnan(cut[5][0])  # nothing costs nothing


def test_the_trie_of_the_worked_example() -> None:
    """Ids: P 0, a 1, b 2, c 3, d 4, E 5. Candidates `a b E` and `a c d E` are five tokens to feed."""
    (trie,) = build_tries(0, [np.array([1, 2, 5]), np.array([1, 3, 4, 5])], max_tokens=9)
    assert trie.n_tokens == 5
    assert [(t.first, t.ids.tolist(), t.path.tolist()) for t in trie.twigs] == [(0, [0, 1, 2], []), (3, [3, 4], [0, 1])]
    assert trie.reads.at.tolist() == [0, 1, 2, 0, 1, 3, 4]
    assert trie.reads.ids.tolist() == [1, 2, 5, 1, 3, 4, 5]
