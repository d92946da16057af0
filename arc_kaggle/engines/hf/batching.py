"""Batch sizes: KV cache slots that fit the memory, tokens of one forward, and prompts that share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch

from arc_kaggle.errors import EngineError
from arc_kaggle.system.hardware import memory_ceiling

KV_SHARE = 0.5
"""Share of the free memory that the KV cache gets."""
LOGIT_BYTES = 2**30
"""Most bytes that are held for the logits of one forward."""
BYTES_PER_LOGIT = 12
"""Bytes of one logit as the network makes it, in fp32, and as log-probability."""


class PassCosts(NamedTuple):
    """Costs of a forward pass on a kind of device, in tokens."""

    step: int
    """Cost of a forward beside its tokens."""
    most: int
    """Tokens that one forward should have at most: on a CPU those that stay in its cache."""
    tree: int
    """Tokens that a tree of candidates should have at most: all of it is looked at for each of them."""


CPU_MOST, CPU_TREE = 1024, 384
"""A tree of 16 answers of 64 tokens stays whole: the rest of it would be passes of its own, mostly padding."""
GPU_COSTS = PassCosts(4096, 16384, 2048)
"""A guess."""
READ_TOKENS, WEIGHTS_A_LAYER = 27, 64e6
"""Cost on a CPU of reading all weights, in tokens; and how many weights take as long to multiply with as the calls of
one layer take. Measured with models of 2.7M and 135M parameters on one core and on two."""


def costs_of(network: Any) -> PassCosts:
    """They follow from the network's shape alone, and never change a result."""
    if network.device.type != "cpu":
        return GPU_COSTS
    n_layers = network.config.get_text_config().num_hidden_layers
    embeddings, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    n_weights = sum(weight.numel() for weight in network.parameters()) - (head is not embeddings) * embeddings.numel()
    return PassCosts(READ_TOKENS + round(WEIGHTS_A_LAYER * n_layers / n_weights), CPU_MOST, CPU_TREE)


def slot_bytes(network: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values, by the config of the network."""
    shape = network.config.get_text_config()
    n_heads = shape.num_attention_heads
    n_kept = getattr(shape, "num_key_value_heads", None) or n_heads
    size = getattr(shape, "head_dim", None) or shape.hidden_size // n_heads
    return int(2 * shape.num_hidden_layers * n_kept * size * dtype.itemsize)


def n_slots_within(network: Any, dtype: torch.dtype, max_slots: int, max_bytes: float) -> int:
    """Slots that a batch may have."""
    return max_slots if max_bytes == inf else min(max_slots, int(max_bytes // slot_bytes(network, dtype)))


def bytes_at_hand(device: torch.device, n_workers: int = 1) -> float:
    """Bytes that keys and values of a batch may take, the rest being for fine-tuning and what a forward needs.

    On a GPU that is a share of what is free on it, elsewhere of what the host grants, which all workers share.
    """
    if device.type == "cuda":
        return KV_SHARE * torch.cuda.mem_get_info(device)[0]
    return KV_SHARE * memory_ceiling() / n_workers


def max_width(network: Any, n_rows: int, costs: PassCosts) -> int:
    """Tokens a row in one forward at most, two at least; the logits of them all must fit."""
    vocabulary = int(network.config.get_text_config().vocab_size)
    return max(2, min(costs.most, LOGIT_BYTES // (BYTES_PER_LOGIT * vocabulary)) // n_rows)


def batches(prompts: Sequence[int], trees: Sequence[int], max_slots: int) -> Iterator[list[int]]:
    """Positions of prompts, by their slots, so that each batch stays within `max_slots`, or is a single prompt.

    `trees` are the slots behind each prompt. All rows of a batch have as many slots as its longest prompt and tree ask.
    """
    batch: list[int] = []
    tree = 0
    for i in np.argsort(prompts, kind="stable").tolist():
        tree = max(tree, trees[i])
        if batch and (len(batch) + 1) * (prompts[i] + tree) > max_slots:
            yield batch
            batch, tree = [], trees[i]
        batch.append(i)
    if batch:
        yield batch


def check_attention(network: Any, longest: int) -> None:
    """Raise EngineError for attention that one mask over slots does not describe; `longest` is in tokens."""
    config = network.config.get_text_config()
    if config._attn_implementation not in ("sdpa", "eager"):
        raise EngineError(f"model: found attention by {config._attn_implementation!r}, expected sdpa or eager")
    if others := set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}:
        raise EngineError(f"model: found layers of {', '.join(sorted(others))}, expected full or sliding attention")
    window = getattr(config, "sliding_window", None)
    if window is not None and longest > window:
        raise EngineError(
            f"prompts: the longest has {longest} tokens with its answer, expected at most {window}, the model's "
            "sliding window; leave out train pairs, or lower the limit of the answer"
        )
