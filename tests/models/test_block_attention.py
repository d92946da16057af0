"""Attention by blocks is torch's attention: the same numbers, the same gradients, and nothing sees what comes later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from models import VOCABULARY, lively_model
from torch import Tensor

from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.models import block_attention as attention
from arc_kaggle.models.block_attention import BLOCK, NAME, BlockAttention, by_blocks
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import summed_loss
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.tuning.optimizer import Optimizer

Found = tuple[Tensor, ...]


def inputs(length: int, dtype: torch.dtype) -> Found:
    """Queries, keys, values and a gradient (heads, time, size)."""
    torch.manual_seed(length)
    return tuple((torch.randn(3, length, 32) * 1.5).to(dtype) for _ in range(4))


def attended(way: Any, query: Tensor, key: Tensor, value: Tensor, gradient: Tensor) -> Found:
    """The output, and the gradients of queries, keys and values."""
    leaves = [each.clone().requires_grad_() for each in (query, key, value)]
    output = way(*leaves)
    output.backward(gradient)
    return (output.detach(), *(leaf.grad for leaf in leaves))  # type: ignore[misc]


def by_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]


def in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    output: Tensor = BlockAttention.apply(query, key, value, 32**-0.5)  # type: ignore[no-untyped-call]
    return output


def errors(found: Found, exact: Found) -> list[float]:
    return [float((one.double() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]


LENGTHS = pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17])


@LENGTHS
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)], ids=["fp32", "bf16"])
def test_blocks_are_torchs_attention(length: int, dtype: torch.dtype, most: float) -> None:
    """In bf16 they are as near to the truth as torch's own kernel, or nearly so."""
    given = inputs(length, dtype)
    exact = attended(by_torch, *(each.double() for each in given))
    found, theirs = (errors(attended(way, *given), exact) for way in (in_blocks, by_torch))
    if length == 1:  # one key: its weight is 1, whatever the scores
        found, theirs = [found[0], found[3]], [theirs[0], theirs[3]]
    assert max(found) < most
    assert max(found) < 1.5 * max(theirs) + 1e-6


@LENGTHS
def test_nothing_sees_what_comes_later(length: int) -> None:
    query, key, value, _ = inputs(length, torch.bfloat16)
    whole, half = in_blocks(query, key, value), (length + 1) // 2
    key[:, half:], value[:, half:] = 9, 9
    assert torch.equal(in_blocks(query, key, value)[:, :half], whole[:, :half])


def loss_and_gradient(model: LoadedModel, positions: Tensor | None = None) -> Found:
    torch.manual_seed(0)
    ids = torch.randint(VOCABULARY, (2, 300))
    model.network.train()
    loss, n_labels = summed_loss(model, ids, ids, positions)
    parameters = list(model.network.parameters())
    return (loss.detach() / n_labels, *torch.autograd.grad(loss / n_labels, parameters))


def in_bf16(model: LoadedModel) -> LoadedModel:
    return replace(model, autocast=torch.bfloat16)


@pytest.mark.parametrize(
    ("model", "packed"),
    [(in_bf16(lively_model(0)), True), (in_bf16(lively_model(0, "qwen2")), False), (lively_model(0), False)],
    ids=["packed", "shared keys", "fp32"],
)
def test_what_blocks_are_not_for_is_torchs(model: LoadedModel, packed: bool) -> None:
    positions = torch.arange(300).remainder(100).repeat(2, 1) if packed else None
    plain = loss_and_gradient(model, positions)
    with by_blocks(model.network):
        within = loss_and_gradient(model, positions)
    assert all(torch.equal(one, other) for one, other in zip(plain, within, strict=True))


def test_long_rows_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = in_bf16(new_model(64, 2, 0))
    plain = loss_and_gradient(model)
    with by_blocks(model.network):
        blocks = loss_and_gradient(model)
        monkeypatch.setattr(attention, "LONGEST", 299)
        long = loss_and_gradient(model)
    assert not all(torch.equal(one, other) for one, other in zip(plain, blocks, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(plain, long, strict=True))


@pytest.mark.parametrize("make", [new_model, new_grid_model])
def test_a_network_trains_as_it_does_with_torchs(make: Callable[[int, int, int], LoadedModel]) -> None:
    config = OptimConfig(learning_rate=1e-3, schedule="constant_with_warmup", warmup_fraction=0)
    ids = torch.randint(VOCABULARY, (2, 2 * BLOCK + 17), generator=torch.Generator().manual_seed(0))
    losses = []
    for blocks in (True, False):
        model = in_bf16(make(64, 2, 0))
        model.network.train()
        optimizer = Optimizer(model, model.network.parameters(), config, 8)
        if blocks:
            with by_blocks(model.network):
                losses.append([optimizer.step(ids, ids) for _ in range(8)])
        else:
            losses.append([optimizer.step(ids, ids) for _ in range(8)])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=3e-3)
    assert losses[0][-1] < losses[0][0] - 0.05


def test_answers_are_given_as_before() -> None:
    """The engine knows torch's attention alone; it finds it again after training, and after an error in it."""
    network: Any = lively_model(0).network
    with pytest.raises(KeyError), by_blocks(network):
        assert network.config._attn_implementation == NAME
        raise KeyError
    assert network.config._attn_implementation == "sdpa"
    network.set_attn_implementation("eager")
    with by_blocks(network):
        assert network.config._attn_implementation == "eager"
