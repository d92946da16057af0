"""Recipes, as values: what test-time fine-tuning trains, for how long, at which rate; and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from arc_kaggle.errors import ConfigError

Drop = Literal["last", "largest", "least_similar"]
"""Which train pair is left out first; of equals the last. `last`: the last. `largest`: the one with most tokens.
`least_similar`: the one whose input is least like the input that is asked for (see `similarity`)."""

Loss = Literal["outputs_but_first", "outputs", "last_output", "everything"]
"""What a training prompt trains: a first output cannot be derived from anything (ARChitects 2024, PoE); all outputs
(NVARC 2025); the answer of a leave-one-out query alone, called completion only (arc24); or every token."""


Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Compute type: `auto` takes what the device is good at."""


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """AdamW and its learning rate."""

    learning_rate: float = 1e-4
    """Peak learning rate."""
    embedding_learning_rate: float | None = None
    """Peak learning rate of what is trained on the input embeddings and the head; that of the rest where None."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate after warm-up; cosine and linear end at 0."""
    warmup_fraction: float = 0.1
    """Share of the steps in which the learning rate rises from 0, 0..1."""
    weight_decay: float = 0.0
    """Decoupled weight decay on matrices, per step times the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """A LoRA adapter (Hu et al. 2021, arXiv:2106.09685), by peft."""

    rank: int = 32
    """Rank of the two factors."""
    alpha: float = 16
    """Scale: alpha / sqrt(rank) with rsLoRA, alpha / rank without."""
    rslora: bool = True
    """Rank-stabilized scale (Kalajdzievski 2023, arXiv:2312.03732)."""
    modules: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get an adapter; `all-linear` is every linear one but the head. `embed_tokens` and
    `lm_head` get plain factors, too; a weight that both share stays one and frozen, the factors are each side's own."""


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """Test-time fine-tuning of every task."""

    weights: Literal["lora", "all", "none"] = "lora"
    """What is trained: a LoRA adapter, all weights (small models), or nothing at all."""
    steps: int = 64
    """Optimizer steps a task."""
    batch_size: int = 1
    """Augmented examples a step."""
    tokens_per_step: int | None = None
    """In place of `batch_size`: as many examples a step as this many tokens hold with their padding, one at least."""
    max_seconds: float = 600.0
    """Most seconds of fine-tuning a task; what is learnt by then is kept."""
    max_tokens: int = 8192
    """Longest example in tokens; of a longer task train pairs are left out."""
    loss: Loss | Literal["auto"] = "auto"
    """What an example trains: all outputs but the first, all outputs, the last output alone, everything, or auto for
    what the prompt preset was trained with."""
    drop: Drop = "last"
    """Which train pair is left out first: the last, the one with most tokens, or the one whose input is least like a
    test input."""
    keep_background: float = 0.9
    """Chance that colour 0 stays itself in an example, 0..1."""
    bucket: int = 64
    """Lengths count in multiples of this many tokens when a step is filled by `tokens_per_step`."""
    verify_share: float = 0.0
    """Share of the examples, 0..1, that train verdicts in place of answers: a train pair's output is proposed, as it is
    or spoiled, and the model says whether it is right. What --rescore.verify asks has to be trained."""
    checkpointing: bool = False
    """Keep of a step only what enters each layer, and compute the rest again: less memory for a third more time."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.verify_share < 1:
            raise ConfigError(f"option tune.verify_share: found {self.verify_share}, expected 0 or more and under 1")

    def examples_a_step(self, n_tokens: int) -> int:
        """Examples of a step in which the longest has `n_tokens` tokens, padding included."""
        return self.batch_size if self.tokens_per_step is None else max(1, self.tokens_per_step // n_tokens)


LADDER = ("", "gradient checkpointing", "examples of half the length", "no fine-tuning")
"""What each level of gentleness adds to the one before it."""


def gentler(config: TuneConfig, level: int) -> TuneConfig:
    """A config for a task that memory ran out on: 0 as configured, then down the ladder.

    Half the length is half of a step's tokens, too; of 3 and more there is nothing left to train.
    """
    if level >= 3:
        return replace(config, weights="none")
    if level == 2:
        a_step = config.tokens_per_step and config.tokens_per_step // 2
        config = replace(config, max_tokens=config.max_tokens // 2, tokens_per_step=a_step)
    return replace(config, checkpointing=True) if level >= 1 else config


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYWHERE = (*ATTENTION, "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head")
"""All linear modules of Llama, Mistral and Qwen, the embeddings and the head."""

RECIPES = {
    "none": TuneConfig(weights="none"),
    "lora": TuneConfig(),
    "box": TuneConfig(
        weights="all",
        steps=100,
        tokens_per_step=1024,
        max_tokens=1024,
        optim=OptimConfig(learning_rate=3e-3, schedule="linear", warmup_fraction=0.05),
    ),
    "arc24": TuneConfig(
        steps=320,
        loss="last_output",
        optim=OptimConfig(learning_rate=8e-5, schedule="linear"),
        lora=LoraConfig(rank=128, alpha=64, modules=ATTENTION),
    ),
    "poe": TuneConfig(
        loss="outputs_but_first",
        keep_background=0.0,
        optim=OptimConfig(learning_rate=1e-4, embedding_learning_rate=1e-5, warmup_fraction=0.5),
        lora=LoraConfig(rank=32, alpha=16, modules=EVERYWHERE),
    ),
    "nvarc": TuneConfig(
        steps=128,
        loss="outputs",
        keep_background=0.0,
        optim=OptimConfig(learning_rate=5e-5),
        lora=LoraConfig(rank=256, alpha=32, modules=EVERYWHERE),
    ),
}
"""Recipes by name. `lora` fits any model; `box` trains all weights of the small model that ships. The others follow
public systems. NONE OF THOSE HAS BEEN RUN ON REAL WEIGHTS YET, and this of each could not be carried over:

arc24   ironbar's arc24. It goes on with the pretrained adapter, and finds a fresh one worse; ours begins fresh, so
        merge the pretrained one into the base first. It used 160 to 340 steps at 4e-5 to 8e-5; its warm-up is not
        known, 10% is ours.
poe     the product-of-experts paper (ARChitects 2024 before it). Its base is in nf4: add --four-bit.
nvarc   NVARC 2025. Its 128 examples are 8 symmetries times 16 colour maps; ours are drawn, so some symmetries come more
        often than others.

LoRA is plain or rank-stabilized, never DoRA, which vLLM cannot load. Precision follows the device (`--precision`).
"""
