"""Engines and tuners with weights of their own: how vLLM gets its model, and what was tuned gets to who answers."""

from __future__ import annotations

import atexit
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree
from typing import Protocol

import torch
from torch import nn

from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.engines.base import Engine
from arc_kaggle.engines.choice import demand_of, longest_text, max_rank
from arc_kaggle.engines.hf.batching import bytes_at_hand
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.placement import check_room
from arc_kaggle.engines.vllm import Served, VLLMEngine
from arc_kaggle.engines.vllm.model import write_network
from arc_kaggle.errors import EngineError
from arc_kaggle.models.loading import LoadedModel, pick_device
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.hardware import all_visible
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.outcome import TuneReport
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner, Tuner

CUT = "arc-kaggle-cut-"


def make_engine(model: LoadedModel, config: SolveConfig) -> tuple[Engine, Tuner | None]:
    """Who answers with a loaded model, and who tunes it; `config` is settled. Raises EngineError, ConfigError."""
    answering = replace(model, autocast=None)  # fp32 weights answer in fp32: less changes answers that are in doubt
    if config.engine == "micro":
        from arc_kaggle.micro.engine import MicroEngine  # which nobody else waits for

        return MicroEngine(answering), None
    if config.engine != "vllm":
        room = bytes_at_hand(model.device, max(1, config.workers))
        engine = HFEngine(answering, config.generate.tokens_per_batch, max_bytes=room, config=config.hf)
        tuner = _make_tuner(model, config)
        if tuner is None and config.adapter:
            LoraAdapter(model, config.tune.lora, config.adapter)  # it answers as it is
        if tuner is None or tuner.model.network is model.network:
            return engine, tuner
        return engine, PublishingTuner(tuner, OnHF(LoraAdapter(model, config.tune.lora, config.adapter)))
    served, device, in_turns = served_of(model, config), model.device, config.vllm.placement == "turns"
    tuner = _make_tuner(model, config)
    if tuner is None or tuner.model.network is not model.network:
        park(model.network)  # it has said what vLLM loads
    if tuner and in_turns:
        park(tuner.model.network)
    vllm = start_vllm(served, config)
    receiver = OnVLLM(vllm, write_pretrained(model, tuner, config))
    if tuner is None:
        return vllm, None
    return vllm, PublishingTuner(InTurns(tuner, vllm, device) if in_turns else tuner, receiver)


def write_pretrained(model: LoadedModel, tuner: InProcessTuner | None, config: SolveConfig) -> Path | None:
    """A folder with the pretrained adapter as it fits the model, its vocabulary cut or not; it goes with this process.

    None where there is no adapter.
    """
    if config.adapter is None:
        return None
    weights = tuner.weights if tuner else LoraAdapter(model, config.tune.lora, config.adapter)
    folder = tempfile.mkdtemp(prefix="arc-kaggle-pretrained-")
    atexit.register(rmtree, folder, ignore_errors=True)
    weights.save(Path(folder))
    return Path(folder)


def _make_tuner(model: LoadedModel, config: SolveConfig) -> InProcessTuner | None:
    if config.tune.weights == "none":
        return None
    if config.tuner == "peft":
        return InProcessTuner(model, config.tune, config.adapter)
    from arc_kaggle.tuning.unsloth import UnslothTuner

    if config.engine != "vllm" and model.device.type != "cpu":
        raise EngineError(
            "option tuner: found unsloth with engine hf on a GPU, where it rewrites the attention of every model in "
            "the process, that of the engine too; choose --engine vllm, or --tuner peft"
        )
    return UnslothTuner(config.model, model, config.tune, config.adapter)


def served_of(model: LoadedModel, config: SolveConfig) -> Served:
    """What vLLM loads in place of a loaded model, to which nothing is attached yet. Raises ConfigError."""
    folder = config.model
    if config.cut_vocabulary:
        folder = Path(tempfile.mkdtemp(prefix=CUT))
        write_network(model, folder)
    dtype = str(model.network.dtype).removeprefix("torch.")
    shape = model.network.config.get_text_config()
    longest = min(shape.max_position_embeddings, longest_text(config))
    return Served(folder, dtype, model.end_id, shape.vocab_size, longest, max_rank(config))


def start_vllm(served: Served, config: SolveConfig) -> VLLMEngine:
    """The engine, on the GPU that the plan gives it. Raises EngineError where that has no room."""
    device = pick_device(config.device)
    number = own_gpu(device, config)
    if number is not None:
        check_room(torch.cuda.mem_get_info(number)[0], demand_of(config), config.vllm.cache_bytes)
    engine = VLLMEngine(served, config.vllm, {} if number is None else {"CUDA_VISIBLE_DEVICES": all_visible()[number]})
    if served.folder.name.startswith(CUT):
        weakref.finalize(engine, rmtree, served.folder, ignore_errors=True)
    return engine


def own_gpu(device: torch.device, config: SolveConfig) -> int | None:
    """The number of vLLM's GPU among those that this process sees, where fine-tuning is on `device`; None for none."""
    if device.type != "cuda":
        return None
    return 1 if config.vllm.placement == "apart" else device.index or 0


def park(network: nn.Module) -> None:
    """Leave the GPU to others."""
    network.to("cpu")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class InTurns:
    """A tuner that has the GPU to itself while it tunes; its model waits in the host's memory while vLLM answers.

    vLLM is ended and started anew, which loads its weights again; its sleep mode would keep them on the host, but wants
    a GPU to be tried on.
    """

    def __init__(self, tuner: InProcessTuner, engine: VLLMEngine, device: torch.device) -> None:
        self.tuner, self.engine, self.device = tuner, engine, device

    def tune(self, examples: Iterator[Example], seed: int, deadline: Deadline, level: int = 0) -> TuneReport:
        self.engine.process.close()
        self.tuner.model.network.to(self.device)
        try:
            return self.tuner.tune(examples, seed, deadline, level)
        finally:
            park(self.tuner.model.network)
            self.engine.process.start()

    def reset(self) -> None:
        self.tuner.reset()

    def save(self, folder: Path) -> None:
        self.tuner.save(folder)

    def load(self, folder: Path) -> None:
        self.tuner.load(folder)

    @property
    def n_bytes(self) -> int:
        return self.tuner.n_bytes


class Receiver(Protocol):
    """Whoever answers with what another tuned."""

    def take(self, write: Callable[[Path], None] | None) -> None:
        """Answer with the adapter that `write` saves from now on, or with the base."""
        ...


class OnVLLM:
    """Every adapter under a fresh name; the one that it replaces leaves vLLM. A pretrained one stands for the base."""

    def __init__(self, engine: VLLMEngine, pretrained: Path | None = None) -> None:
        self.engine, self.pretrained = engine, pretrained
        self.name: str | None = None
        if pretrained:
            self.take(None)

    def take(self, write: Callable[[Path], None] | None) -> None:
        if self.name is not None:
            self.engine.drop(self.name)
        self.name = None  # should it not be taken
        if write is None and self.pretrained:
            write = partial(copytree, self.pretrained, dirs_exist_ok=True)
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
        self.receiver.take(self.tuner.save if report.tuned else None)
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
