"""A model for vLLM: the folder that it loads, as it lies there or written from what was loaded and cut."""

from __future__ import annotations

from pathlib import Path

from arc_kaggle.models.loading import LoadedModel, stock_weights


def write_network(model: LoadedModel, folder: Path) -> None:
    """Write weights and config as they are in memory. vLLM needs no tokenizer, because it is given token ids."""
    model.network.save_pretrained(folder, state_dict=stock_weights(model.network))
