"""Rotary positions in four passes are those of transformers, forward and back."""

from __future__ import annotations

import pytest
import torch
from models import lively_model
from transformers.models.llama import modeling_llama

from arc_kaggle.models.loss import completion_loss
from arc_kaggle.models.rotary import apply, turned_at_once

STOCK = modeling_llama.apply_rotary_pos_emb


def test_states_and_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    states = [torch.randn(2, heads, 5, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2)]
    angles = torch.randn(2, 5, 4, dtype=torch.float64).repeat(1, 1, 2)
    found, expected = (way(*states, angles.cos(), angles.sin()) for way in (apply, STOCK))
    for one, other in zip(found, expected, strict=True):
        weights = torch.randn_like(one)
        gradients = [torch.autograd.grad((each * weights).sum(), states, allow_unused=True) for each in (one, other)]
        assert torch.allclose(one, other, rtol=1e-12)
        assert [g is None for g in gradients[0]] == [g is None for g in gradients[1]]
        assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*gradients, strict=True) if a is not None)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "grid"])
def test_a_step_is_the_same_within_it_and_the_network_is_as_before_afterwards(kind: str) -> None:
    model = lively_model(0, kind)
    network = model.network.double()
    ids = torch.randint(1, network.config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    found = []
    for way in (True, False):
        network.zero_grad()
        if way:
            with turned_at_once(network):
                is_other = modeling_llama.apply_rotary_pos_emb is not STOCK
                loss = completion_loss(model, ids, ids)
                loss.backward()
            assert is_other is (kind == "llama")
        else:
            loss = completion_loss(model, ids, ids)
            loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
    assert modeling_llama.apply_rotary_pos_emb is STOCK
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in zip(*found, strict=True))
