"""Batches: what a pass holds follows from seed, step and pass alone, and packed examples do not see each other."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import VOCABULARY, lively_model
from train_data import source_of, tiny_config

from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.training.packing import Batch, BatchStream, Ids, one_a_row, pack
from arc_kaggle.training.trainee import check_packing


def stream_of(folder: Path, **changes: Any) -> BatchStream:
    return BatchStream(source_of(tiny_config(folder, **changes)), pad_id=0)


def same(a: list[Batch[Ids]], b: list[Batch[Ids]]) -> bool:
    """Whether two passes are equal; `pickle` compares all arrays and numbers."""
    return pickle.dumps(a) == pickle.dumps(b)


@pytest.mark.parametrize("batching", ["buckets", "packed"])
def test_a_pass_follows_from_seed_step_and_number_alone(tmp_path: Path, batching: Any) -> None:
    stream = stream_of(tmp_path, batching=batching)
    first = stream[1, 0]
    others = [stream[2, 0], stream[1, 1], stream_of(tmp_path, batching=batching, seed=1)[1, 0]]
    assert not any(same(first, other) for other in others)
    assert same(first, stream[1, 0])
    assert same(first, pickle.loads(pickle.dumps(stream))[1, 0])  # as in another process


def examples_in(batch: Batch[Ids]) -> list[list[int]]:
    """The ids of every example, cut where positions begin anew; the last of a row may hold padding."""
    rows = []
    for row, ids in enumerate(batch.ids):
        cuts = [0] if batch.positions is None else np.flatnonzero(batch.positions[row] == 0)
        rows += [part.tolist() for part in np.split(ids, cuts[1:])]
    return rows


@pytest.mark.parametrize("batching", ["buckets", "packed"])
@pytest.mark.parametrize("n_passes", [1, 4])
def test_a_step_has_about_the_tokens_asked_for(tmp_path: Path, batching: Any, n_passes: int) -> None:
    sizes = {"tokens_per_batch": 2048, "tokens_per_pass": 2048 // n_passes}
    stream = stream_of(tmp_path, batching=batching, first_max_tokens=256, **sizes)
    for step in range(1, 4):
        batches = [batch for number in range(n_passes) for batch in stream[step, number]]
        assert sum(batch.ids.size for batch in batches) == pytest.approx(2048, abs=n_passes * 256)
        assert all(batch.ids.shape == batch.labels.shape for batch in batches)
        assert sum(batch.n_tokens for batch in batches) > (0.8 if batching == "packed" else 0.5) * 2048
        n_tokens = sum(int((batch.ids != 0).sum()) for batch in batches)
        assert sum(batch.n_tokens for batch in batches) == n_tokens  # the pad token is in no example


@pytest.mark.parametrize("batching", ["buckets", "packed"])
def test_examples_grow_with_the_steps(tmp_path: Path, batching: Any) -> None:
    sizes = {"first_max_tokens": 64, "max_tokens": 256, "steps": 100, "growing_fraction": 0.5}
    stream = stream_of(tmp_path, batching=batching, **sizes)
    config = stream.source.config
    assert [config.longest(step) for step in (1, 26, 51, 100)] == [64, 160, 256, 256]
    for step in (1, 26, 100):
        examples = [example for number in range(8) for batch in stream[step, number] for example in examples_in(batch)]
        lengths = [sum(token != 0 for token in example) for example in examples]
        assert max(lengths) <= config.longest(step)
        assert max(lengths) > 0.6 * config.longest(step) or step == 100


def test_packed_rows_hold_whole_examples_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [Example(ids := rng.integers(1, 9, size=n), np.where(ids > 4, ids, NOT_TRAINED)) for n in (5, 3, 6)]
    batch = pack([examples[:2], examples[2:]], 10, 0)
    assert batch.positions is not None
    assert batch.ids.tolist() == [[*examples[0].ids, *examples[1].ids, 0, 0], [*examples[2].ids, 0, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]]
    assert batch.labels[0, [0, 5]].tolist() == [NOT_TRAINED] * 2  # nothing precedes the first token of an example
    assert batch.labels[0, 1:5].tolist() == examples[0].labels[1:].tolist()
    assert batch.n_tokens == 14
    assert one_a_row(examples, round_up(6, 128), 0).positions is None


def random_examples(rng: np.random.Generator, lengths: tuple[int, ...]) -> list[Example]:
    """All tokens are trained on, the first too, which nothing precedes."""
    ids = [rng.integers(VOCABULARY, size=length) for length in lengths]
    return [Example(each, each) for each in ids]


def loss_of(model: Any, batch: Batch[Ids]) -> tuple[torch.Tensor, int]:
    ids, labels = torch.from_numpy(batch.ids), torch.from_numpy(batch.labels)
    return summed_loss(model, ids, labels, None if batch.positions is None else torch.from_numpy(batch.positions))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "grid"])
def test_the_loss_and_gradient_of_a_packed_row_are_those_of_its_examples_apart(kind: str, attention: str) -> None:
    model = lively_model(0, kind)
    model.network.set_attn_implementation(attention)
    examples = random_examples(np.random.default_rng(0), (40, 7, 60, 21))
    weight = model.network.get_input_embeddings().weight
    packed, n_labels = loss_of(model, pack([examples[:3], examples[3:]], 128, model.pad_id))
    apart = [loss_of(model, one_a_row([example], len(example.ids), model.pad_id)) for example in examples]
    total = sum((loss for loss, _ in apart), torch.zeros(()))
    assert n_labels == sum(n for _, n in apart) == 40 + 7 + 60 + 21 - 4
    assert packed.item() == pytest.approx(total.item(), rel=1e-6)
    (found,), (expected,) = torch.autograd.grad(packed, weight), torch.autograd.grad(total, weight)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_network_that_sees_over_the_border_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_model(0)
    check_packing(model)
    forward = model.network.forward

    def without_positions(*args: Any, position_ids: Any = None, **options: Any) -> Any:
        return forward(*args, **options)

    monkeypatch.setattr(model.network, "forward", without_positions)
    with pytest.raises(ConfigError, match=r"^option batching: found a LlamaForCausalLM in which a packed example sees"):
        check_packing(model)
