"""Model folders of some shapes with random weights, made on the fly: nothing is downloaded.

    python benchmarks/shapes.py SHAPE FOLDER [--device cuda]

Weights are bf16 and come from a seed. The tokenizer is a small one of the tests, whatever the size of the vocabulary; a
cell is one token, and tasks are put to the model in the plain prompt. Nothing is solved: the point is what answers and
training steps cost. Prints a JSON object last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from airv import commit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from models import trained_tokenizer

from arc_kaggle.models.card import ModelCard, write_card
from arc_kaggle.text.presets import find_preset

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "toy": (
        "Qwen2",
        {
            "vocab_size": 1000,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
    "0.5B": (
        "Qwen2",
        {
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
        },
    ),
    "4B": (
        "Qwen3",
        {
            "vocab_size": 151936,
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
    ),
}
"""Architecture and sizes, those of Qwen2.5-0.5B and Qwen3-4B among them."""
LONGEST = 16384
"""Tokens of a prompt."""


def make_folder(shape: str, folder: Path, device: str = "cpu", scale: float = 1.0) -> int:
    """Write a model folder; returns its number of weights. They are drawn on the device, which is faster on a GPU.

    Matrices are `scale` times as large as they usually begin, the row of the end token three times that: large ones
    make answers that differ and end.
    """
    kind, sizes = SHAPES[shape]
    tokenizer = trained_tokenizer()
    tokenizer.model_max_length = LONGEST
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, **ids, bos_token_id=None, max_position_embeddings=2 * LONGEST, tie_word_embeddings=True
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            network = getattr(transformers, f"{kind}ForCausalLM")(config)
    finally:
        torch.set_default_dtype(before)
    if scale != 1:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(scale if parameter.ndim >= 2 else 1)
            network.get_input_embeddings().weight[config.eos_token_id] *= 3
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_card(folder, ModelCard.of(find_preset("plain", tokenizer).notation(tokenizer), "lora", {}))
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    started = time.perf_counter()
    n_weights = make_folder(options.shape, options.folder, options.device)
    seconds = round(time.perf_counter() - started, 2)
    print(
        json.dumps(
            {
                "benchmark": "shapes",
                "commit": commit(),
                "shape": options.shape,
                "weights": n_weights,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
