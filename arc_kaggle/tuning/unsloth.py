"""Test-time fine-tuning by Unsloth: the loop and the examples of tuner.py on a network that Unsloth loads and patches.

Unsloth's trainer is not used, nor its data preparation: examples are given as token ids, one by one as long as they
are, so that nothing cuts them off, pads them on another side or counts them anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from arc_kaggle.config.tune import LoraConfig, TuneConfig
from arc_kaggle.errors import EngineError
from arc_kaggle.models.loading import DTYPES, LoadedModel
from arc_kaggle.models.loss import TensorBatch, collate
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.tokens import Example
from arc_kaggle.tuning.optimizer import Optimizer
from arc_kaggle.tuning.pretrained import load_factors
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import PADDED, InProcessTuner, origin_of, step_batches

EXTRA = "pip install 'arc_kaggle[unsloth]'; on a machine without a GPU: make test-backends"
SWITCHES = {"UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
ENDS = {"embed_tokens", "lm_head"}


class UnslothTuner(InProcessTuner):
    """Trains a copy of the model, of its own; whoever answers takes what `save` writes."""

    def __init__(self, folder: Path, model: LoadedModel, config: TuneConfig, pretrained: Path | None = None) -> None:
        """`model` says what the network is loaded as. Raises EngineError where Unsloth cannot load it."""
        check_modules(config.lora)
        network, autocast = load_network(folder, model, config.max_tokens)
        self.model, self.config = replace(model, network=network, autocast=autocast), config
        self.origin = origin_of(network, config, pretrained)
        self.weights = UnslothAdapter(network, config.lora, pretrained)

    def _train(self, examples: Iterator[Example], losses: list[float], config: TuneConfig, deadline: Deadline) -> None:
        network: Any = self.model.network
        network.train()
        try:
            with self.weights.training() as parameters:
                optimizer = UnslothOptimizer(self.model, parameters, config.optim, config.steps)
                for batch in islice(step_batches(examples, config), config.steps):
                    if deadline.passed:
                        break
                    losses.append(optimizer.step(*collate(batch, self.model.pad_id, PADDED)))
        finally:
            network.zero_grad()
            network.eval()


class UnslothOptimizer(Optimizer):
    """The same step, with the loss as Unsloth computes it: the mean over the labels, without a table of all logits."""

    def _backward(self, batches: Sequence[TensorBatch]) -> float:
        ((ids, labels, _),) = batches
        device, network = self.model.device, self.model.network
        with self.model.computing():
            loss: Any = network(input_ids=ids.to(device), labels=labels.to(device), use_cache=False).loss
        self.scaler.scale(loss).backward()
        return float(loss.detach())


class UnslothAdapter(LoraAdapter):
    """An adapter that Unsloth attached, in peft's format like any other."""

    def __init__(self, network: nn.Module, config: LoraConfig, pretrained: Path | None = None) -> None:
        import peft
        from unsloth import FastLanguageModel

        self.peft_model = FastLanguageModel.get_peft_model(
            network,
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=0,
            use_rslora=config.rslora,
            target_modules=linear_modules(network) if config.modules == ("all-linear",) else list(config.modules),
        )
        self.layers = [layer for layer in self.peft_model.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]
        if pretrained:
            load_factors(self.peft_model, network, pretrained)
        self.kept = None
        self.start = [factor.detach().clone() for factor in self.parameters] if pretrained else []


def check_modules(config: LoraConfig) -> None:
    """Raise EngineError for embeddings and head: Unsloth trains full copies of them, which vLLM cannot load."""
    if ends := sorted(ENDS & set(config.modules)):
        raise EngineError(
            f"option tuner: found unsloth and tune.lora.modules {', '.join(ends)}, of which it trains full copies that "
            "vLLM cannot load, expected linear modules between them; choose --tuner peft, or --tune.lora.modules "
            "all-linear"
        )


def linear_modules(network: Any) -> list[str]:
    """Names of all linear modules but the head, as peft's `all-linear` has them."""
    head = network.get_output_embeddings()
    linear = {path for path, module in network.named_modules() if isinstance(module, nn.Linear) and module is not head}
    return sorted({path.rpartition(".")[2] for path in linear})


def import_unsloth() -> None:
    """Before transformers, which it patches. Raises EngineError where it is absent, or finds nothing to run on."""
    if not find_spec("unsloth"):
        raise EngineError(f"option tuner: found unsloth, but its package is not installed; {EXTRA}")
    os.environ.update(SWITCHES)
    try:
        import unsloth  # noqa: F401
    except (ImportError, NotImplementedError, RuntimeError) as error:
        raise EngineError(f"option tuner: unsloth cannot start: {type(error).__name__}: {error}; {EXTRA}") from error


def load_network(folder: Path, model: LoadedModel, max_tokens: int) -> tuple[Any, Any]:
    """The network of a folder as Unsloth has it, and the type of its products."""
    import_unsloth()
    from unsloth import FastLanguageModel

    try:
        network, _ = FastLanguageModel.from_pretrained(
            str(folder), max_seq_length=max_tokens + PADDED, dtype=model.network.dtype, load_in_4bit=False
        )
    except (NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise EngineError(f"option tuner: unsloth cannot load {folder}: {type(error).__name__}: {error}") from error
    on_cpu = model.device.type == "cpu"
    return network.eval(), model.autocast if on_cpu or network.dtype == DTYPES["fp32"] else network.dtype
