"""Causal attention for training on a CPU: blocks of queries, each against the keys that it sees, by matrix products.

At the lengths of one task torch's own kernel takes most of a step there, its backward pass above all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arc_kaggle.models.grid_network import Attend, GridNetwork

BLOCK = 128
"""Queries of a block. What a smaller one saves behind the causal mask it loses in smaller products."""
LONGEST = 2048
"""Tokens of a row. Weights are kept for the backward pass, half a square of the length for every head."""
NAME = "arc_kaggle_blocks"


class BlockAttention(torch.autograd.Function):
    """Scores and softmax in fp32, all other products in the precision of the values."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Queries, keys and values of one row (heads, time, size); so is what is returned."""
        exact, keys = query.float() * scale, key.float().transpose(1, 2)
        weights, output, space = [], torch.empty_like(value), _space(query, torch.float32)
        for begin, end in _blocks(query.shape[1]):
            scores = torch.bmm(exact[:, begin:end], keys[:, :, :end], out=space(end - begin, end))
            scores[:, :, begin:].masked_fill_(_later(end - begin), -torch.inf)
            weights.append(torch.softmax(scores, dim=-1, out=scores).to(value.dtype, copy=True))
            torch.bmm(weights[-1], value[:, :end], out=output[:, begin:end])
        ctx.save_for_backward(*((each * scale).to(value.dtype) for each in (query, key)), value, *weights)
        ctx.dtype = query.dtype
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *weights = ctx.saved_tensors
        (of_output,) = gradients
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(each, dtype=torch.float32) for each in (key, value))
        space, part = _space(query, value.dtype), _space(query, value.dtype)
        for (begin, end), weight in zip(_blocks(query.shape[1]), weights, strict=True):
            scores = torch.bmm(of_output[:, begin:end], value[:, :end].transpose(1, 2), out=space(end - begin, end))
            torch._softmax_backward_data(scores, weight, -1, weight.dtype, grad_input=scores)
            added = part(end, query.shape[2])
            of_value[:, :end] += torch.bmm(weight.transpose(1, 2), of_output[:, begin:end], out=added)
            of_key[:, :end] += torch.bmm(scores.transpose(1, 2), query[:, begin:end], out=added)
            torch.bmm(scores, key[:, :end], out=of_query[:, begin:end])
        return of_query.to(ctx.dtype), of_key.to(ctx.dtype), of_value.to(value.dtype), None


def _space(query: Tensor, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
    """Room for (heads, rows, columns) of one block at a time: what is written again and again stays in the cache."""
    n_heads, length, size = query.shape
    room = torch.empty(n_heads * length * max(size, min(BLOCK, length)), dtype=dtype)
    return lambda n_rows, n_columns: room[: n_heads * n_rows * n_columns].view(n_heads, n_rows, n_columns)


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, length, BLOCK):
        yield begin, min(length, begin + BLOCK)


def _later(n: int) -> Tensor:
    """Which keys (n, n) come after a query."""
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    otherwise: Attend | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; queries, keys and values (batch, heads, time, size).

    Rows that are masked, packed, long, or share keys between heads go to torch's own kernel, by way of `otherwise` or
    of transformers; so does fp32, in which blocks gain nothing.
    """
    plain = attention_mask is None and key.shape == query.shape and not options.get("dropout") and value.requires_grad
    if not plain or query.shape[2] > LONGEST or value.dtype == torch.float32:
        return (otherwise or _stock())(module, query, key, value, attention_mask, **options)[0], None
    scale = options.get("scaling") or query.shape[3] ** -0.5
    # Row by row: whatever the batch, blocks of padded rows have few shapes, and each shape compiles kernels.
    with torch.autocast("cpu", enabled=False):
        outputs = [BlockAttention.apply(*row, scale) for row in zip(query, key, value, strict=True)]  # type: ignore[no-untyped-call]
    return torch.stack(outputs).transpose(1, 2), None


def _stock() -> Attend:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward  # type: ignore[no-any-return]


@contextmanager
def by_blocks(network: Any) -> Iterator[None]:
    """Within it a network on a CPU that uses torch's kernel attends by blocks; others stay as they are."""
    before = network.config._attn_implementation
    if before != "sdpa" or network.device.type != "cpu":
        yield
        return
    if isinstance(network, GridNetwork):
        with network.attending_by(partial(attend, otherwise=network.kernel.attention)):
            yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation(before)
