"""Optimizers without torch's compiler take the same steps (tests/models/test_lean_import.py: it is not imported)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from arc_kaggle.tuning.eager import EagerAdamW


def steps(kind: type[torch.optim.Optimizer], fused: bool) -> tuple[list[Tensor], list[bool]]:
    """Weights after three steps, a restart from the saved state and three more; and what needs a gradient then."""
    draw = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(5, 4, generator=draw)) for _ in range(3)]
    groups = [{"params": weights[:2], "lr": 0.1}, {"params": weights[2:], "weight_decay": 0.3}]
    optimizer = kind(copy.copy(groups), lr=0.01, betas=(0.9, 0.95), fused=fused)  # type: ignore[call-arg]
    for step in range(6):
        if step == 3:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = kind([dict(group) for group in groups], lr=0.5, fused=fused)  # type: ignore[call-arg]
            optimizer.load_state_dict(state)
        for weight in weights:
            weight.grad = torch.randn(5, 4, generator=draw)
        optimizer.step()
        optimizer.zero_grad()
        assert all(weight.grad is None for weight in weights)
    return [weight.detach() for weight in weights], [weight.requires_grad for weight in weights]


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_torchs_bit_for_bit(fused: bool) -> None:
    mine, theirs = steps(EagerAdamW, fused), steps(torch.optim.AdamW, fused)
    assert all(torch.equal(own, other) for own, other in zip(mine[0], theirs[0], strict=True))
    assert mine[1] == theirs[1] == [True] * 3
