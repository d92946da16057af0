"""Micro-step models: segments, and the network beside its base."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from models import ENTROPY, generate, micro_of, random_prompts

from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.micro.engine import MicroEngine
from arc_kaggle.micro.network import Merger, Segments
from arc_kaggle.micro.segmentation import behind, cut, openers_of, uncertainty
from arc_kaggle.models.grid_places import places_of
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.models.new_model import new_grid_model, new_model

# segments


def starts(values: list[float], **options: Any) -> list[int]:
    found = cut(torch.tensor([values]), MicroConfig("entropy", **options))
    return [i for i, begins in enumerate(found[0].tolist()) if begins]


def test_segments_begin_where_the_reference_was_uncertain() -> None:
    assert starts([0, 0.1, 0.9, 0.1, 0.1], threshold=0.5) == [0, 2]


def test_a_budget_is_spent_over_a_segment() -> None:
    assert starts([0, 0.3, 0.3, 0.3, 0.3, 0.3], threshold=0.7, budget=True) == [0, 3]
    assert starts([0, 0.3, 0.3, 0.3, 0.3, 0.3], threshold=0.7) == [0]


def test_no_segment_is_too_long() -> None:
    assert starts([0.0] * 7, threshold=1, most_tokens=3) == [0, 3, 6]


def test_a_segment_begins_behind_every_token_that_answers_begin_behind() -> None:
    """Also where an answer is not trained, as in a prompt: the second row's first one; each row has its own."""
    ids = torch.tensor([[7, 9, 5, 5, 9, 5], [8, 5, 9, 8, 5, 9], [7, 9, 8, 9, 8, 9]])
    labels = torch.tensor([[-100, -100, 5, 5, -100, 5], [-100, -100, -100, -100, 5, 9], [-100] * 6])
    found = behind(ids, openers_of(ids, labels))
    assert [row.nonzero().flatten().tolist() for row in found] == [[2, 5], [1, 4], []]
    assert starts([0.0] * 3, threshold=1) == [0]
    forced = torch.tensor([[False, False, True]])
    assert cut(torch.zeros(1, 3), MicroConfig("entropy"), forced)[0].tolist() == [True, False, True]


@pytest.mark.parametrize("changes", [{}, {"window": 8}, {"budget": True}])
def test_decoding_sees_the_prompt_that_training_saw(changes: dict[str, Any]) -> None:
    """The last answer of an example is trained; in decoding, what is before it is a prompt. In bf16, too."""
    model, _ = micro_of(replace(ENTROPY, threshold=2.4, **changes))
    network: Any = model.network
    (example,) = random_prompts([40])
    example[[5, 14, 29]] = 3  # an opener
    ids = torch.from_numpy(example)[None]
    labels = ids.clone()
    labels[:, :15] = labels[:, 20:30] = -100  # the second answer and the third, the first only in the prompt
    trained = network.segments_of(ids, openers_of(ids, labels)).number[0, :30]
    assert 6 < trained.max() < 29 and trained.diff()[[5, 14]].tolist() == [1, 1]
    assert torch.equal(network.segments_of(ids[:, :30], [ids[0, 29:30]]).number[0], trained)
    with torch.autocast("cpu", torch.bfloat16):
        found = uncertainty(network.reference[0], ids, network.micro_config)
    assert torch.equal(found, uncertainty(network.reference[0], ids, network.micro_config))


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("kind", ["entropy", "confidence"])
@pytest.mark.parametrize("network", ["llama", "grid"])
def test_uncertainty_is_that_of_the_token_before_it_is_seen(network: str, kind: Any, window: int) -> None:
    """Held against one forward pass for each token, over what it may see: with one layer a band is a cut."""
    reference, ids = one_layer(network), torch.from_numpy(random_prompts([9])[0])[None]
    found = uncertainty(reference, ids, MicroConfig(kind, window=window))[0]
    positions = places_of(ids, reference.config.positions) if network == "grid" else torch.arange(9)[None]
    for t in range(1, 9):
        seen = slice(max(0, t - window) if window else 0, t)
        mask = torch.ones(1, seen.stop - seen.start, dtype=torch.long)
        with torch.no_grad():
            given = {"position_ids": positions[:, seen], "attention_mask": mask}
            p = reference(input_ids=ids[:, seen], **given).logits[0, -1].softmax(-1)
        expected = -(p * p.log()).sum() if kind == "entropy" else 1 - p.max()
        assert found[t].item() == pytest.approx(expected.item(), abs=1e-4)
    assert len({round(value, 3) for value in found.tolist()}) > 5


def one_layer(kind: str) -> Any:
    """A network whose large random weights make it differently uncertain."""
    network: Any = (new_grid_model if kind == "grid" else new_model)(64, 1, 0).network
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(10)
    return network


def test_the_table_holds_every_token_once() -> None:
    begins = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 1, 0, 1]], dtype=torch.bool)
    segments = Segments.of(begins)
    assert segments.table.tolist() == [
        [[0, 1, -1], [2, 3, 4], [-1, -1, -1], [-1, -1, -1]],
        [[0, -1, -1], [1, -1, -1], [2, 3, -1], [4, -1, -1]],
    ]
    assert segments.within.tolist() == [[0, 1, 0, 1, 2], [0, 0, 0, 1, 0]]
    assert segments.last.tolist() == [[1, 4, 0, 0], [0, 1, 3, 4]]


# the network


@pytest.mark.parametrize("merger", ["weights", "mean", "last"])
def test_one_token_stays_what_it_is_and_padding_says_nothing(merger: Any) -> None:
    module = Merger(8, MicroConfig("entropy", merger=merger, most_tokens=3))
    embedded = torch.randn(2, 3, 8)
    one = torch.tensor([[True, False, False]] * 2)
    assert torch.equal(module(embedded, one), embedded[:, 0])
    two = torch.tensor([[True, True, False]] * 2)
    changed = embedded.clone()
    changed[:, 2] = 99
    assert torch.equal(module(embedded, two), module(changed, two))
    if merger == "mean":
        assert torch.allclose(module(embedded, two), embedded[:, :2].mean(1))
    if merger == "last":
        assert torch.equal(module(embedded, two), embedded[:, 1])


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_segments_of_one_token_are_the_base_model_exactly(kind: str) -> None:
    model, base = micro_of(replace(ENTROPY, threshold=0.0, stop=1.0), kind=kind)
    network: Any = model.network
    ids = torch.from_numpy(np.stack(random_prompts([20, 20])))
    with torch.no_grad():
        hidden = network.hidden_before(ids, Segments.of(torch.ones_like(ids, dtype=torch.bool)))
        logits = network.get_output_embeddings()(hidden)[:, 1:]
        expected: Any = base.network(input_ids=ids, use_cache=False).logits[:, :-1]
    assert torch.equal(logits, expected)
    prompts = random_prompts([7, 12, 5])
    found, wanted = generate(MicroEngine(model), prompts, [20] * 3), generate(HFEngine(base), prompts, [20] * 3)
    assert [each.ids.tolist() for each in found] == [each.ids.tolist() for each in wanted]


@pytest.mark.parametrize("kind", ["llama", "grid"])
def test_a_row_of_one_token_segments_changes_nothing_in_others(kind: str) -> None:
    """transformers would take the gaps of the other row for the borders of packed texts, were there no mask."""
    model, _ = micro_of(kind=kind)
    network: Any = model.network
    ids = torch.from_numpy(np.stack(random_prompts([12, 12])))
    begins = torch.tensor([[True] * 12, [True, False, False] * 4])
    with torch.no_grad():
        together = network.hidden_before(ids, Segments.of(begins))
        alone = [network.hidden_before(ids[i : i + 1], Segments.of(begins[i : i + 1]))[0] for i in range(2)]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_the_labels_and_reaches_all_modules() -> None:
    model, _ = micro_of()
    ids = torch.from_numpy(np.stack(random_prompts([20, 20])))
    labels = ids.clone()
    labels[:, :6] = -100
    total, n_labels = summed_loss(model, ids, labels)
    assert n_labels == 28
    total.backward()  # type: ignore[no-untyped-call]
    for name in ("base", "merger", "micro"):
        grads = [p.grad for p in getattr(model.network, name).parameters()]
        assert any(grad is not None and bool(grad.abs().sum() > 0) for grad in grads), name
    network: Any = model.network
    hidden = network.hidden_before(ids, network.segments_of(ids, openers_of(ids, labels)))[:, 6:]
    log_probs = network.get_output_embeddings()(hidden).log_softmax(-1).gather(-1, ids[:, 6:, None])
    assert total.item() == pytest.approx(-log_probs.sum().item(), rel=1e-5)


def test_what_nothing_predicts_is_not_in_the_loss() -> None:
    """The first segment, whose tokens have no macro step before them."""
    model, _ = micro_of()
    network: Any = model.network
    ids = torch.from_numpy(np.stack(random_prompts([20, 20])))
    n_first = int((network.segments_of(ids, openers_of(ids, ids)).number == 0).sum())
    assert n_first > 2
    assert summed_loss(model, ids, ids)[1] == ids.numel() - n_first
