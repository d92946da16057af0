"""Rotary positions for training on a CPU: four passes over queries and keys in place of twelve.

transformers turns a copy of each state, multiplies twice and adds, and so does its backward pass, which keeps all of
it. What is computed is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

STOCK = "apply_rotary_pos_emb"
PLAIN = {"LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention"}
"""Classes of attention that turn the first half of each head against the second, by angles that both share."""


class Turn(torch.autograd.Function):
    """States (batch, heads, time, size), turned by cosines and sines (batch, 1, time, size) whose halves are equal."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return turned(states, cosines, sines, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return turned(gradients[0], cosines, sines, -1), None, None


def turned(states: Tensor, cosines: Tensor, sines: Tensor, sign: int) -> Tensor:
    """States turned forwards or, with sign -1, backwards."""
    half = states.shape[-1] // 2
    found = states * cosines
    found[..., :half].addcmul_(states[..., half:], sines[..., :half], value=-sign)
    found[..., half:].addcmul_(states[..., :half], sines[..., half:], value=sign)
    return found


def apply(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """In place of transformers' function of this kind."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return Turn.apply(query, cos, sin), Turn.apply(key, cos, sin)  # type: ignore[no-untyped-call]


@contextmanager
def turned_at_once(network: Any) -> Iterator[None]:
    """Within it a network of the Llama kind on a CPU turns its states this way; others stay as they are."""
    found = next((module for module in network.modules() if type(module).__name__ in PLAIN), None)
    if found is None or network.device.type != "cpu":
        yield
        return
    home = sys.modules[type(found).__module__]
    before = getattr(home, STOCK)
    setattr(home, STOCK, apply)
    try:
        yield
    finally:
        setattr(home, STOCK, before)
