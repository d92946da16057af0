"""vLLM for a run: the model that it loads, and a tuner that hands it what was tuned."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree

from arc_kaggle.budget import Deadline
from arc_kaggle.config import SolveConfig
from arc_kaggle.engines.vllm import VLLMEngine
from arc_kaggle.engines.vllm_asks import EXTRA, Served
from arc_kaggle.engines.vllm_model import write_network
from arc_kaggle.errors import ConfigError, EngineError
from arc_kaggle.lora import VLLM_RANKS
from arc_kaggle.model import LoadedModel
from arc_kaggle.recipe import TuneReport
from arc_kaggle.tokens import Example
from arc_kaggle.tune import Tuner

MOST_ANSWER = 2048
"""Tokens of an answer, more than the largest grid has in any encoder but the repeating ones."""


def start_vllm(model: LoadedModel, config: SolveConfig) -> VLLMEngine:
    """The engine for a loaded model, before anything is attached to it. Raises EngineError, ConfigError."""
    if not find_spec("vllm"):
        raise EngineError(f"option engine: found vllm, but its package is not installed; {EXTRA}")
    folder = config.model
    if config.cut_vocabulary:
        folder = Path(tempfile.mkdtemp(prefix="arc-kaggle-cut-"))
        write_network(model, folder)
    dtype = str(model.network.dtype).removeprefix("torch.")
    shape = model.network.config.get_text_config()
    longest = min(shape.max_position_embeddings, config.generate.max_prompt_tokens + MOST_ANSWER)
    served = Served(folder, dtype, model.end_id, shape.vocab_size, longest, max_rank(config))
    gpu = {"CUDA_VISIBLE_DEVICES": config.device.removeprefix("cuda:")} if config.device.startswith("cuda:") else {}
    engine = VLLMEngine(served, config.vllm, gpu)
    if config.cut_vocabulary:
        weakref.finalize(engine, rmtree, folder, ignore_errors=True)
    return engine


def max_rank(config: SolveConfig) -> int:
    """vLLM's name for the rank of a run's adapters; 0 for a run without. Raises ConfigError for too high a rank."""
    if config.tune.weights == "none":
        return 0
    for rank in VLLM_RANKS:
        if rank >= config.tune.lora.rank:
            return rank
    raise ConfigError(
        f"option tune.lora.rank: found {config.tune.lora.rank}, expected {VLLM_RANKS[-1]} or less with --engine vllm"
    )


class PublishingTuner:
    """A tuner whose every result goes to vLLM as an adapter of its own, and what it replaces leaves it."""

    def __init__(self, tuner: Tuner, engine: VLLMEngine) -> None:
        self.tuner, self.engine = tuner, engine
        self.published: str | None = None

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        self._withdraw()
        report = self.tuner.tune(examples, seed, deadline, level)
        if not report.outcome.startswith("base"):
            self._publish()
        return report

    def reset(self) -> None:
        self._withdraw()
        self.tuner.reset()

    def save(self, folder: Path) -> None:
        self.tuner.save(folder)

    def load(self, folder: Path) -> None:
        self.tuner.load(folder)
        self._withdraw()
        self._publish()

    @property
    def n_bytes(self) -> int:
        return self.tuner.n_bytes

    def _publish(self) -> None:
        self.published = self.engine.put(self.tuner.save)
        self.engine.use(self.published)

    def _withdraw(self) -> None:
        if self.published is not None:
            self.engine.drop(self.published)
        self.published = None
