"""A LoRA adapter merged into its base, for as long as the merged model is needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from arc_kaggle.config.model import CARD_FILE
from arc_kaggle.errors import ModelError
from arc_kaggle.evaluation.model_folders import TOKENIZER_FILES, ModelFolder
from arc_kaggle.system.paths import remove_below


@contextmanager
def loadable(model: ModelFolder, scratch: Path) -> Iterator[Path]:
    """The folder to load: the model's own, or `scratch`, in which an adapter is merged into its base meanwhile.

    A process of its own merges, and takes the merged model's memory with it when it ends. Raises ModelError.
    """
    if model.base is None:
        yield model.folder
        return
    remove_below(scratch.parent, scratch)  # what a killed process left
    try:
        apart(merge_adapter, model.base, model.folder, scratch)
        yield scratch
    finally:
        with suppress(OSError):
            remove_below(scratch.parent, scratch)


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own. Raises what it raises, and ModelError where the process dies."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(function, *arguments).result()
    except BrokenProcessPool as error:
        raise ModelError(
            f"{function.__name__} of {', '.join(map(str, arguments))}: its process died, perhaps for want of memory; "
            "fp32 weights of the base must fit"
        ) from error


def merge_adapter(base: Path, adapter: Path, into: Path) -> None:
    """Write the model that an adapter makes of its base: fp32 weights, so that nothing of it is rounded away, the
    tokenizer, and the card. Neither folder is changed. Raises ModelError.
    """
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
        _untie(network)  # factors on embeddings and head are each side's own
        merged = PeftModel.from_pretrained(network, str(adapter)).merge_and_unload()
        merged.save_pretrained(into)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"adapter {adapter}, base {base}: {type(error).__name__}: {error}") from error
    for folder in (base, adapter):
        for pattern in (*TOKENIZER_FILES, CARD_FILE):
            for path in folder.glob(pattern):
                shutil.copy(path, into)


def _untie(network: Any) -> None:
    """Give a head that shares the weight of the input embeddings a copy of its own."""
    from torch import nn

    head = network.get_output_embeddings()
    if head.weight is network.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        network.config.tie_word_embeddings = False
