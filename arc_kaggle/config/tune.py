"""The options of test-time fine-tuning, and the recipes: named sets of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from arc_kaggle.config.options import Count, Drop, Natural, NotNegative, Positive, Share, check_ranges
from arc_kaggle.errors import ConfigError

Loss = Literal["outputs_but_first", "outputs", "last_output", "everything"]
"""What a training prompt trains: a first output cannot be derived from anything (ARChitects 2024, PoE); all outputs
(NVARC 2025); the answer of a leave-one-out query alone, called completion only (arc24); or every token."""


Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Compute type: `auto` takes what the device is good at."""


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """The optimizer and its learning rate."""

    learning_rate: NotNegative = 1e-4
    """Peak learning rate."""
    embedding_learning_rate: NotNegative | None = None
    """Peak learning rate of what is trained of the input embeddings and the head; the same as all else where it is not
    given."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate after warm-up; cosine and linear end at 0."""
    warmup_fraction: Share = 0.1
    """Share of the steps, 0..1, in which the learning rate rises from 0."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay on matrices, per step and times the learning rate."""
    max_grad_norm: Positive = 1.0
    """Gradients of a greater norm are scaled down to this one."""
    matrices: Literal["adamw", "muon"] = "adamw"
    """Optimizer of the matrices within the layers; AdamW is that of all else, embeddings and head among it."""

    def __post_init__(self) -> None:
        check_ranges(self, "optim")


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """The LoRA adapter (Hu et al. 2021, arXiv:2106.09685), by peft."""

    rank: Count = 32
    """Rank of the two low-rank factors."""
    alpha: NotNegative = 16
    """The update is scaled by alpha / sqrt(rank) with rsLoRA, and by alpha / rank without."""
    rslora: bool = True
    """Scale the update as rank-stabilized LoRA does (Kalajdzievski 2023, arXiv:2312.03732)."""
    modules: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get an adapter; all-linear means every linear module but the head. embed_tokens and
    lm_head can be named too; where they share one weight, that weight stays frozen and each gets factors of its
    own."""

    def __post_init__(self) -> None:
        check_ranges(self, "lora")


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """Test-time fine-tuning of every task."""

    weights: Literal["lora", "all", "none"] = "lora"
    """What is trained: a LoRA adapter, all weights (of small models), or nothing at all."""
    steps: Natural = 64
    """Optimizer steps on one task."""
    batch_size: Count = 1
    """Augmented examples in one step."""
    tokens_per_step: Count | None = None
    """In place of a batch size: a step has as many examples as fit this many tokens, padding included, and at least
    one."""
    max_seconds: Positive = 600.0
    """Most seconds of fine-tuning on one task. What is learnt by then is kept."""
    max_tokens: Count = 8192
    """Longest example in tokens. Where a task is longer, train pairs are left out."""
    loss: Loss | Literal["auto"] = "auto"
    """Which tokens of an example are trained: those of all outputs but the first, of all outputs, of the last output
    alone, of everything, or auto for what the prompt format was made for."""
    drop: Drop = "last"
    """Which train pair is left out first: the last, the largest in tokens, or the one whose input is least similar to a
    test input."""
    keep_background: Share = 0.9
    """Probability, 0..1, that an example leaves colour 0 as it is; else colour 0 is permuted with the others."""
    bucket: Count = 64
    """Lengths are rounded up to multiples of this many tokens when a step is filled by --tune.tokens-per-step."""
    verify_share: Share = 0.0
    """Share of the examples, from 0 to below 1, that train a verdict in place of an answer: the output of a train pair
    is shown as it is, or altered, and the model learns to say whether it is right. --rescore.verify asks for it."""
    pair_share: Share = 0.0
    """Share of the examples, from 0 to below 1, that train a choice in place of an answer: the output of a train pair
    is shown beside a wrong one, by preference one that the model itself gave before it was tuned, and the model learns
    to say which is right. --rescore.pairs asks for it."""
    checkpointing: bool = False
    """Gradient checkpointing: activations are computed again in the backward pass, which takes less memory and a third
    more time."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The AdamW optimizer and its learning rate. The defaults shown here are those that --recipe sets."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The LoRA adapter (Hu et al. 2021, arXiv:2106.09685), by peft. The defaults shown here are those that --recipe
    sets."""

    def __post_init__(self) -> None:
        check_ranges(self, "tune")
        for name in ("verify_share", "pair_share"):
            if getattr(self, name) == 1:
                raise ConfigError(f"option tune.{name}: found 1, expected less, or no example would train an answer")

    def examples_a_step(self, n_tokens: int) -> int:
        """Examples of a step in which the longest has `n_tokens` tokens, padding included."""
        return self.batch_size if self.tokens_per_step is None else max(1, self.tokens_per_step // n_tokens)


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYWHERE = (*ATTENTION, "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head")
"""All linear modules of Llama, Mistral and Qwen, the embeddings and the head."""

RECIPES = {
    "none": TuneConfig(weights="none"),
    "lora": TuneConfig(),
    "box": TuneConfig(
        weights="all",
        steps=50,
        tokens_per_step=1024,
        max_tokens=2048,
        optim=OptimConfig(learning_rate=3e-3, schedule="linear", warmup_fraction=0.05, matrices="muon"),
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
