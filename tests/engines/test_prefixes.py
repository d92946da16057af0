"""Shared prefixes: what is copied, in which order, and that answers stay what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from models import assert_same, generate, generate_slowly, lively_model

from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.hf.forward import Forward
from arc_kaggle.engines.hf.prefixes import Prefix, prefix_pays, shared_length, waves
from arc_kaggle.system.deadline import Deadline

SYSTEM, PAIRS, OTHERS = [1, *[3] * 30], [6, 7, 8, 9] * 10, [9, 6] * 25


def ids(*parts: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.array(part, dtype=np.int64) for part in parts])


PROMPTS = [
    ids(SYSTEM, OTHERS, [8, 8, 4]),
    ids(SYSTEM, PAIRS, [7, 4]),
    ids([1, 5, 4]),
    ids(SYSTEM, PAIRS, [6, 6, 6, 4]),
    ids(SYSTEM, OTHERS, [7, 7, 7, 7, 4]),
    ids(SYSTEM, PAIRS, [7, 4]),
    ids(SYSTEM, PAIRS),
]


def always(n_shared: int, n_tokens: int) -> bool:
    return True


@pytest.mark.parametrize(("one", "other", "n"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2], [2, 1], 0)])
def test_shared_length(one: list[int], other: list[int], n: int) -> None:
    assert shared_length(np.array(one), np.array(other)) == n
    assert shared_length(np.array(other), np.array(one)) == n


def test_waves_are_those_of_the_example() -> None:
    texts = ["sssABx", "sssABy", "sssCDx", "sssCDy"]
    found = list(waves([np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) for text in texts], always))
    expected = [{Prefix(0, 0, 0)}, {Prefix(1, 0, 5), Prefix(2, 0, 3)}, {Prefix(3, 2, 5)}]
    assert [set(wave) for wave in found] == expected


def test_every_row_takes_what_an_earlier_wave_has() -> None:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, size=rng.integers(1, 12)) for _ in range(200)]
    through: set[int] = set()
    n_copied = 0
    for wave in waves(prompts, always):
        for each in wave:
            same = prompts[each.row][: each.n_tokens].tolist() == prompts[each.source][: each.n_tokens].tolist()
            assert same and (not each.n_tokens or each.source in through)
            n_copied += each.n_tokens
        through |= {each.row for each in wave}
    assert through == set(range(len(prompts)))
    assert sum(map(len, prompts)) - n_copied == len(
        {row[:i].tobytes() for row in prompts for i in range(1, len(row) + 1)}
    )


@pytest.mark.parametrize(("n_shared", "n_tokens", "pays"), [(20, 350, True), (10, 350, False), (300, 2000, False)])
def test_a_prefix_is_copied_where_that_saves_more_than_a_mask_costs(n_shared: int, n_tokens: int, pays: bool) -> None:
    assert prefix_pays(n_shared, n_tokens, 576) is pays


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "grid alone"])
def test_answers_are_those_of_whole_prompts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model(0, kind)
    monkeypatch.setattr("arc_kaggle.engines.hf.forward.prefix_pays", lambda n_shared, n_tokens, width: True)
    n_fed = 0
    run = Forward._run

    def count(self: Forward, rows: Any, fed: Any, *rest: Any, prefill: bool = False) -> Any:
        nonlocal n_fed
        n_fed += fed.size * prefill
        return run(self, rows, fed, *rest, prefill=prefill)

    monkeypatch.setattr(Forward, "_run", count)
    limits = [12] * len(PROMPTS)
    found = generate(HFEngine(model, bucket=1), PROMPTS, limits)
    for completion, prompt in zip(found, PROMPTS, strict=True):
        assert_same(completion, generate_slowly(model, prompt, 12), tolerance=1e-4)
    assert n_fed < 0.6 * sum(map(len, PROMPTS))  # padding among them
    candidates = [[np.array([7, 2]), np.array([6, 2])]] * len(PROMPTS)
    shared = dict(HFEngine(model).score(PROMPTS, candidates, Deadline.never()))
    monkeypatch.setattr("arc_kaggle.engines.hf.forward.prefix_pays", lambda n_shared, n_tokens, width: False)
    alone = dict(HFEngine(model).score(PROMPTS, candidates, Deadline.never()))
    for row in range(len(PROMPTS)):
        np.testing.assert_allclose(shared[row], alone[row], rtol=0, atol=1e-4)
