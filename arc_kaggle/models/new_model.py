"""A new small model with random weights."""

from __future__ import annotations

from typing import Any

import torch

from arc_kaggle.models.loading import LoadedModel, in_notation
from arc_kaggle.text.box_tokenizer import SYMBOLS, box_tokenizer, text_tokenizer
from arc_kaggle.text.presets import find_preset


def new_grid_model(hidden_size: int, n_layers: int, seed: int, autocast: torch.dtype | None = None) -> LoadedModel:
    """A small GridLM with random weights, heads of 32, and a tokenizer with one token a cell."""
    from arc_kaggle.models.grid_lm import GridLM, GridLMConfig

    torch.manual_seed(seed)
    tokenizer = box_tokenizer()
    config = GridLMConfig(
        vocab_size=len(SYMBOLS),
        hidden_size=hidden_size,
        intermediate_size=round(hidden_size * 8 / 3 / 64) * 64,
        num_hidden_layers=n_layers,
        num_attention_heads=hidden_size // 32,
        newline_token_id=SYMBOLS.index("\n"),
        input_token_id=SYMBOLS.index("I"),
        output_token_id=SYMBOLS.index("O"),
    )
    return in_notation(GridLM(config), find_preset("plain", tokenizer).notation(tokenizer), autocast)


def new_model(hidden_size: int, n_layers: int, seed: int, autocast: torch.dtype | None = None) -> LoadedModel:
    """A small Llama with random weights, heads of 32, and a tokenizer with one token a cell."""
    torch.manual_seed(seed)
    network, tokenizer = _llama(len(SYMBOLS), hidden_size, n_layers), box_tokenizer()
    return in_notation(network, find_preset("plain", tokenizer).notation(tokenizer), autocast)


def new_text_model(hidden_size: int, n_layers: int, seed: int) -> LoadedModel:
    """A small Llama with random weights that reads any prompt letter by letter, to compare encoders and prompts."""
    torch.manual_seed(seed)
    tokenizer = text_tokenizer()
    network = _llama(len(tokenizer), hidden_size, n_layers)
    return in_notation(network, find_preset("plain", tokenizer).notation(tokenizer), None)


def _llama(vocab_size: int, hidden_size: int, n_layers: int) -> Any:
    import arc_kaggle.models.lean_import  # isort: skip  # noqa: F401  (before the names of transformers)
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=round(hidden_size * 8 / 3 / 64) * 64,
        num_hidden_layers=n_layers,
        num_attention_heads=hidden_size // 32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)
