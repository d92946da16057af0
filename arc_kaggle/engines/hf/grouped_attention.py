"""Tree attention of grouped queries (Ainslie et al. 2023, arXiv:2305.13245) without copies of keys and values.

Where several heads share their keys and values, transformers repeats those for every head as soon as there is a mask:
at 8 rows of 500 slots that moves more bytes in a decode step than all weights of a small model have. Here the queries
of a group are further places of one head instead, with the same mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from arc_kaggle.models.grid_network import GridNetwork

NAME = "arc_kaggle_grouped"


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: (rows, time, heads, size) of queries (rows, heads, time, size).

    Keys and values (rows, heads of those, slots, size), mask (rows, 1, time, slots). Where every head has its own,
    or nothing is masked, torch's kernel is called as transformers calls it.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, time, size = query.shape
    group = heads // key.shape[1]
    if group == 1 or attention_mask is None or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)[0], None
    grouped = query.reshape(rows, key.shape[1], group * time, size)
    mask = attention_mask.repeat(1, 1, group, 1)
    output = F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return output.view(rows, heads, time, size).transpose(1, 2), None


@contextmanager
def in_groups(network: Any) -> Iterator[None]:
    """Within it a network that attends by torch's kernel attends by groups; others stay as they are."""
    config = network.config.get_text_config()
    if config._attn_implementation != "sdpa" or isinstance(network, GridNetwork):  # whose heads share nothing
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface

    if NAME not in AttentionInterface():
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
