"""A tiny model folder with a tokenizer and a chat template, and sets of prompts as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from models import trained_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_tokenizer(template: str = CHATML) -> Any:
    import copy

    tokenizer = copy.copy(trained_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def write_text_model(folder: Path, seed: int = 0) -> Path:
    """Two layers of width 64 with random weights, over the 500 tokens of the tests' tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = chat_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_embeddings(folder: Path) -> Path:
    """A sentence-transformers folder with a random model of one layer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel

    tokenizer = chat_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "inner")
    tokenizer.save_pretrained(folder / "inner")
    inner = Transformer(str(folder / "inner"))
    SentenceTransformer(modules=[inner, Pooling(32)], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


def write_set(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
