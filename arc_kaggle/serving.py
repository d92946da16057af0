"""Engines and tuners with weights of their own: how vLLM gets its model, and what was tuned gets to who answers."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Protocol

import torch

from arc_kaggle.budget import Deadline
from arc_kaggle.config import SolveConfig
from arc_kaggle.engines.base import Engine
from arc_kaggle.engines.capacity import bytes_at_hand
from arc_kaggle.engines.hf import HFEngine
from arc_kaggle.engines.vllm import VLLMEngine
from arc_kaggle.engines.vllm_asks import EXTRA, Served
from arc_kaggle.engines.vllm_model import write_network
from arc_kaggle.errors import ConfigError, EngineError
from arc_kaggle.lora import VLLM_RANKS, LoraAdapter
from arc_kaggle.model import LoadedModel, stock_weights
from arc_kaggle.recipe import TuneReport
from arc_kaggle.tokens import Example
from arc_kaggle.tune import InProcessTuner, Tuner

MOST_ANSWER = 2048
"""Tokens of an answer, more than the largest grid has in any encoder but the repeating ones."""

RESERVE_GB = 2
"""GiB of a GPU for the context of a process, activations and graphs."""


def make_engine(model: LoadedModel, config: SolveConfig) -> tuple[Engine, Tuner | None]:
    """Who answers with a loaded model, and who tunes it. Raises EngineError, ConfigError."""
    answering = replace(model, autocast=None)  # on a CPU in fp32: bf16 products change answers that are in doubt
    vllm = start_vllm(model, config) if config.engine == "vllm" else None
    room = bytes_at_hand(model.device, max(1, config.workers))
    engine: Engine = vllm or HFEngine(answering, config.generate.tokens_per_batch, max_bytes=room)
    if config.tune.weights == "none":
        return engine, None
    if config.tuner == "peft":
        peft = InProcessTuner(model, config.tune)
        return engine, PublishingTuner(peft, OnVLLM(vllm)) if vllm else peft
    return engine, PublishingTuner(*_unsloth(model, config, vllm))


def _unsloth(model: LoadedModel, config: SolveConfig, vllm: VLLMEngine | None) -> tuple[Tuner, Receiver]:
    from arc_kaggle.unsloth_tuner import UnslothTuner

    if vllm is None and model.device.type != "cpu":
        raise EngineError(
            "option tuner: found unsloth with engine hf on a GPU, where it rewrites the attention of every model in "
            "the process, that of the engine too; choose --engine vllm, or --tuner peft"
        )
    tuner = UnslothTuner(config.model, model, config.tune)
    return tuner, OnVLLM(vllm) if vllm else OnHF(LoraAdapter(model, config.tune.lora))


def start_vllm(model: LoadedModel, config: SolveConfig) -> VLLMEngine:
    """The engine for a loaded model, before anything is attached to it. Raises EngineError, ConfigError."""
    if not find_spec("vllm"):
        raise EngineError(f"option engine: found vllm, but its package is not installed; {EXTRA}")
    if model.device.type == "cuda":
        weights = sum(tensor.nbytes for tensor in stock_weights(model.network).values())
        check_room(torch.cuda.mem_get_info(model.device)[0], weights, config)
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


def check_room(n_free: int, n_weights: int, config: SolveConfig) -> None:
    """Raise EngineError where vLLM's own weights, its cache and what else it holds are more bytes than are free."""
    gib = [n / 2**30 for n in (n_weights, n_free)]
    wanted = gib[0] + config.vllm.cache_gb + RESERVE_GB
    if wanted > gib[1]:
        raise EngineError(
            f"option engine: found vllm, which wants {wanted:.1f} GiB beside the model that is tuned ({gib[0]:.1f} of "
            f"weights, {config.vllm.cache_gb} of cache, {RESERVE_GB} for itself), but {gib[1]:.1f} are free; lower "
            "--vllm.cache-gb, or choose --engine hf, which shares the model with fine-tuning"
        )


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


class Receiver(Protocol):
    """Whoever answers with what another tuned."""

    def take(self, write: Callable[[Path], None] | None) -> None:
        """Answer with the adapter that `write` saves from now on, or with the base."""
        ...


class OnVLLM:
    """Every adapter under a fresh name; the one that it replaces leaves vLLM."""

    def __init__(self, engine: VLLMEngine) -> None:
        self.engine = engine
        self.name: str | None = None

    def take(self, write: Callable[[Path], None] | None) -> None:
        if self.name is not None:
            self.engine.drop(self.name)
        self.name = None  # should it not be taken
        self.name = self.engine.put(write) if write else None
        self.engine.use(self.name)


class OnHF:
    """The adapter on the network that the engine answers with."""

    def __init__(self, adapter: LoraAdapter) -> None:
        self.adapter = adapter

    def take(self, write: Callable[[Path], None] | None) -> None:
        if write is None:
            self.adapter.reset(seed=0)
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "adapter")
            self.adapter.load(Path(folder) / "adapter")


class PublishingTuner:
    """A tuner whose every result goes to an engine that has weights of its own."""

    def __init__(self, tuner: Tuner, receiver: Receiver) -> None:
        self.tuner, self.receiver = tuner, receiver

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        report = self.tuner.tune(examples, seed, deadline, level)
        self.receiver.take(None if report.outcome.startswith("base") else self.tuner.save)
        return report

    def reset(self) -> None:
        self.receiver.take(None)
        self.tuner.reset()

    def save(self, folder: Path) -> None:
        self.tuner.save(folder)

    def load(self, folder: Path) -> None:
        self.tuner.load(folder)
        self.receiver.take(self.tuner.save)

    @property
    def n_bytes(self) -> int:
        return self.tuner.n_bytes
