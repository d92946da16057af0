"""Engines on vLLM with the weights of tiny models, for the suites that run where vLLM is installed."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from shutil import rmtree

from models import LONGEST

from arc_kaggle.config.engines import VLLMConfig
from arc_kaggle.engines.vllm import Served, VLLMEngine
from arc_kaggle.engines.vllm.model import write_network
from arc_kaggle.models.loading import LoadedModel

QUICK = VLLMConfig(cache_gb=1, max_rows=64, eager=True)


def vllm_engine(model: LoadedModel, max_rank: int = 0, config: VLLMConfig = QUICK) -> VLLMEngine:
    """Whoever asks for it closes it."""
    folder = Path(tempfile.mkdtemp(prefix="arc-kaggle-model-"))
    write_network(model, folder)
    engine = VLLMEngine(Served(folder, "float32", model.end_id, len(model.tokenizer), LONGEST, max_rank), config)
    weakref.finalize(engine, rmtree, folder, ignore_errors=True)
    return engine
