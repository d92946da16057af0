"""The last layer's MLP runs only where a label is: what it says of other tokens nobody looks at.

Keys and values of the last layer are needed of every token, what comes behind its attention is not. Losses and
gradients are the same; of a network with few layers, and of tasks where one token in four has a label, a step takes a
tenth less.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

PLAIN = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer", "GridLayer"}
"""Classes of layers that are attention behind a norm, then an MLP behind a norm, each beside the residual stream."""


@contextmanager
def last_layer_at(network: Any, kept: Tensor) -> Iterator[bool]:
    """Within it the decoder gives hidden states (1, labels, width) of the places `kept` (batch, time) alone.

    Gives whether it does: layers of other kinds stay as they are, and give those of all places (batch, time, width).
    Under gradient checkpointing this layer keeps its activations, for it could not be run again later.
    """
    layers = getattr(network.get_decoder(), "layers", None)
    layer: Any = layers[-1] if layers else None
    if type(layer).__name__ not in PLAIN:
        yield False
        return

    def forward(hidden_states: Tensor, *given: Any, **options: Any) -> Tensor:
        attended = layer.self_attn(layer.input_layernorm(hidden_states), *given, **options)
        hidden: Tensor = (hidden_states + (attended[0] if isinstance(attended, tuple) else attended))[kept][None]
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return hidden

    layer.forward, before = forward, getattr(layer, "gradient_checkpointing", False)
    layer.gradient_checkpointing = False
    try:
        yield True
    finally:
        del layer.forward
        layer.gradient_checkpointing = before
