"""The options of `arc-kaggle train`. No torch here: processes that only make data read them too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from arc_kaggle.config.tune import LoraConfig, Loss, OptimConfig, Precision
from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Make a model from training rules. Refuses rules that an evaluation set contains.

    Goes on from the newest checkpoint where `--out` holds one; another value of an option that shapes the run is then
    refused. Results are the same for the same options, however often the run was stopped.
    """

    out: Path
    """Folder for the model, its card, the log and the checkpoints."""
    data: tuple[str, ...] = ("arc1:training",)
    """Task sets, task files, pair files (.jsonl, .jsonl.xz), or `synth` for endless synthetic rules (`synth:0.6`: of
    difficulty 0.6 at most), each with an optional weight: `SOURCE=2.5`."""
    start: Path | None = None
    """Model folder to go on from; a new model where it is not given."""
    hidden_size: int = 192
    """Width of a new model, a multiple of 32."""
    n_layers: int = 6
    """Depth of a new model."""
    steps: int = 8000
    """Optimizer steps."""
    max_minutes: float | None = None
    """Most minutes of the run, over all its resumes, with loading, validation and saving; the learning rate falls in
    time for it. May differ on resume."""
    tokens_per_batch: int = 4096
    """Tokens in a step, padding included."""
    tokens_per_pass: int | None = None
    """Tokens in one forward pass, for less memory: gradients of several passes add up to a step; all at once where
    None."""
    batching: Literal["buckets", "packed"] = "buckets"
    """One example a row, in passes of like lengths; or several, none of which sees another. On a CPU packing pays up to
    about 512 tokens: attention then runs over the whole row."""
    max_tokens: int = 1024
    """Longest example, in tokens."""
    first_max_tokens: int = 256
    """Longest example at the beginning; it grows to `max_tokens`."""
    growing_fraction: float = 1 / 3
    """Share of the steps over which it grows, 0..1."""
    max_pairs: int = 6
    """Most pairs in an example."""
    prompt: str = "auto"
    """How tasks are put to the model that training goes on from, as for `solve`; a new model is plain."""
    encoder: str = ""
    """How grids are written for it, as for `solve`; for a new model `minimal` or `coordinates`."""
    weights: Literal["all", "lora"] = "all"
    """What is trained: all weights, or a LoRA adapter on those of `start`, which is saved alone."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    four_bit: bool = False
    """Hold the weights of `start` in 4 bits (nf4) under the adapter."""
    cut_vocabulary: bool = False
    """Train with those tokens of `start` alone that prompts and answers are made of; all weights are saved with all
    tokens again."""
    inputs_share: float = 0.0
    """Share of examples in which an input is to be generated from other inputs (arc24), 0..1."""
    remake_share: float = 0.0
    """Share of examples made into a new task by one more transformation of all inputs, or of all outputs, 0..1."""
    loss: Loss = "outputs_but_first"
    """What an example trains: all outputs but the first, all outputs, the last output alone, or everything."""
    keep_background: float = 0.8
    """Chance that colour 0 stays itself, 0..1."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(learning_rate=2e-3, warmup_fraction=0.03, weight_decay=0.1)
    )
    decay_fraction: float = 1.0
    """Share of the run at its end in which the learning rate falls, 0..1. Below 1 it stays at its peak until then:
    warm-up, stable, decay (WSD)."""
    first_stage_steps: int = 0
    """Steps in which only some modules are trained, the rest frozen; then all are, with a new optimizer."""
    first_stage_modules: tuple[str, ...] = ()
    """These modules, such as embed_tokens: any part of a weight's path."""
    first_stage_learning_rate: float | None = None
    """Peak learning rate of the first stage; that of `optim` where None."""
    ema: float = 0.0
    """Share that an exponential moving average of the weights keeps each step, such as 0.999, less in the first steps;
    saved in OUT/ema and validated beside the raw weights. None is made for 0."""
    precision: Precision = "auto"
    """Compute type; weights are trained in fp32."""
    compile: bool = False
    """Compile the network by torch.compile; results then differ by rounding."""
    seed: int = 0
    """Seed of weights and data; equal seeds give equal losses on one machine."""
    hold_out: float = 0.05
    """Share of rules kept for validation, chosen by a digest of the rule id, 0..1."""
    validation_puzzles: int = 32
    """Held-out puzzles answered at every saving, greedily, in one view."""
    against: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    """Evaluation sets that no rule may come from."""
    drop_leaks: bool = False
    """Leave out rules and pairs that an evaluation set contains, and train on the rest."""
    allow_leak: bool = False
    """Train on everything; stamped into the model card."""
    recipe: str = "box"
    """Recipe that `solve` tunes this model by, written into its card."""
    save_every: int = 1000
    """Steps between two savings of the model, each with validation and a checkpoint. May differ on resume."""
    keep_checkpoints: int = 2
    """Checkpoints kept in OUT/checkpoints, the newest. May differ on resume."""
    data_workers: int = 0
    """Processes that make data ahead of time; the results are the same. May differ on resume."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Log there, too, beside OUT/log.jsonl, where the package is installed. May differ on resume."""

    def __post_init__(self) -> None:
        for name, least in AT_LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected {least} or more")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"option {name}: found {getattr(self, name)}, expected a share, 0..1")
        if problem := next(self._problems(), None):
            raise ConfigError(f"option {problem}")

    def _problems(self) -> Iterator[str]:
        """Options that do not go together."""
        if self.tokens_per_batch % (self.tokens_per_pass or self.tokens_per_batch):
            yield f"tokens_per_pass: found {self.tokens_per_pass}, expected a divisor of {self.tokens_per_batch}"
        if self.start is None and (self.weights == "lora" or self.cut_vocabulary):
            yield "start: found none, expected a model folder for an adapter, or for a vocabulary to be cut"
        if self.four_bit and self.weights != "lora":
            yield "four_bit: found weights 'all', expected lora: weights in 4 bits cannot be trained themselves"
        if self.cut_vocabulary and self.weights == "lora" and {"embed_tokens", "lm_head"} & {*self.lora.modules}:
            yield "cut_vocabulary: found an adapter on embeddings or head, expected none: it would fit no other model"
        if bool(self.first_stage_steps) != bool(self.first_stage_modules) or self.first_stage_steps >= self.steps:
            yield (
                f"first_stage_steps: found {self.first_stage_steps} of {self.steps} and modules "
                f"{self.first_stage_modules}, expected fewer than all steps, and modules for them; or neither"
            )

    @property
    def n_passes(self) -> int:
        """Forward passes that add up to a step."""
        return self.tokens_per_batch // (self.tokens_per_pass or self.tokens_per_batch)

    def longest(self, step: int) -> int:
        """Longest example of a step, in tokens; steps count from 1."""
        growth = min(1.0, (step - 1) / max(1.0, self.growing_fraction * self.steps))
        return round(self.first_max_tokens + growth * (self.max_tokens - self.first_max_tokens))


AT_LEAST = {
    "steps": 1,
    "tokens_per_batch": 1,
    "max_pairs": 2,
    "first_stage_steps": 0,
    "validation_puzzles": 0,
    "save_every": 1,
    "keep_checkpoints": 1,
    "data_workers": 0,
}
SHARES = ("growing_fraction", "inputs_share", "remake_share", "keep_background", "decay_fraction", "ema", "hold_out")
MAY_DIFFER = ("out", "max_minutes", "save_every", "keep_checkpoints", "data_workers", "track")
"""Options that shape no result, except for the time a run has."""
