"""The options of `arc-kaggle train`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.config.options import (
    ASIDE,
    MANY,
    Count,
    Minutes,
    Natural,
    NotNegative,
    Processes,
    Range,
    Seed,
    Share,
    check_ranges,
)
from arc_kaggle.config.tune import LoraConfig, Loss, OptimConfig, Precision
from arc_kaggle.errors import ConfigError

PROMPTS = "prompts:"
"""What a source of prompts with completions begins with."""
SAVED_BESIDE = ("best", "ema")
"""Folders in OUT with models of the run beside its last one."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Make a model from training rules. Refuses rules that an evaluation set contains.

    Goes on from the newest checkpoint where `--out` holds one; another value of an option that shapes the run is then
    refused. Results are the same for the same options, however often the run was stopped.
    """

    out: Annotated[Path, ASIDE]
    """Folder for the model, its card, log.jsonl and the checkpoints."""
    data: tuple[str, ...] = ("arc1:training",)
    """What to train on: task sets, files or folders of tasks or of pairs in the shapes that people publish (.json,
    .jsonl, also as .gz or .xz), or synth for endless synthetic rules (synth:0.6 for those of difficulty 0.6 at
    most). Each can have a weight: SOURCE=2.5. demonstrations:TASKS takes the train pairs of tasks alone, which may be
    those of an evaluation set: the model is then made for these tasks. prompts:FILE takes prompts with completions
    (docs/prompts.md), and then all of them must be such files."""
    skip_bad: bool = False
    """Leave out tasks and files that cannot be read, with a line for each, and go on with the others."""
    start: Path | None = None
    """Model folder to go on from; a new model is made where it is not given."""
    adapter: Path | None = None
    """LoRA adapter on `start`, in peft's format: --weights lora goes on from it, with its rank, scale and modules;
    --weights all begins with it merged."""
    architecture: Literal["llama", "grid"] = "llama"
    """Architecture of a new model: llama, or grid for GridLM, whose tokens know their pair, row and column."""
    hidden_size: Annotated[int, Range(32, 65536)] = 192
    """Hidden size of a new model, a multiple of 32."""
    n_layers: Annotated[int, Range(1, 1000)] = 6
    """Layers of a new model."""
    steps: Count = 8000
    """Optimizer steps."""
    max_minutes: Annotated[Minutes | None, ASIDE] = None
    """Most minutes of the whole run, over all its resumes, with loading, validation and saving. The learning rate falls
    in time for it. No limit where it is not given. It may change when a run is resumed, but not to one that is over."""
    tokens_per_batch: Count = 4096
    """Tokens in one optimizer step, padding included."""
    examples_per_batch: Count | None = None
    """Examples in one optimizer step, in place of --tokens-per-batch. With --max-symbols runs in different encodings
    then see the same grids in the same steps."""
    tokens_per_pass: Count | None = None
    """Tokens in one forward pass; the gradients of several passes are accumulated into a step, which needs less memory.
    All tokens of a step at once where it is not given."""
    batching: Literal["buckets", "packed"] = "buckets"
    """buckets: one example a row, in passes of similar lengths. packed: several examples a row, none of which attends
    to another. On a CPU packing pays up to about 512 tokens, because attention then runs over the whole row."""
    bucket: Count = 128
    """Rows are padded to a multiple of so many tokens. In bf16 on a CPU each length compiles kernels of its own; in
    fp32 none does, and 32 pads less."""
    max_tokens: Count = 1024
    """Longest example, in tokens."""
    max_symbols: Count | None = None
    """Longest example in cells and row ends, whatever the encoding makes of them; pairs are chosen by it where
    --max-tokens leaves room for them all. No limit where it is not given."""
    first_max_tokens: Count = 256
    """Longest example at the beginning of the run; it grows to --max-tokens."""
    growing_fraction: Share = 1 / 3
    """Share of the steps over which it grows, 0..1."""
    max_pairs: Annotated[int, Range(2, MANY)] = 6
    """Most pairs in an example."""
    prompt: str = "auto"
    """The prompt format, as for `solve`; a new model is always plain."""
    encoder: str = ""
    """How grids are written as text, as for `solve`; a new model has minimal alone."""
    weights: Literal["all", "lora"] = "all"
    """What is trained: all weights, or a LoRA adapter on those of --start, which is then saved alone."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    four_bit: bool = False
    """Keep the linear layers of --start in 4 bits (nf4) under the adapter (QLoRA)."""
    four_bit_skip: tuple[str, ...] = FOUR_BIT_SKIP
    """Modules that are not quantised with --four-bit, as for `solve`."""
    cut_vocabulary: bool = False
    """Train only those rows of the embeddings and of the head whose tokens prompts and answers are made of; the saved
    model has all rows again."""
    inputs_share: Share = 0.0
    """Share of the examples, 0..1, in which an input is to be generated from other inputs (arc24)."""
    remake_share: Share = 0.0
    """Share of the examples, 0..1, that are turned into a new task by one more transformation of all inputs, or of all
    outputs."""
    loss: Loss = "outputs_but_first"
    """Which tokens of an example are trained: those of all outputs but the first, of all outputs, of the last output
    alone, or of everything. Of prompts with completions: everything, or with any other value the completion alone."""
    chat: bool = False
    """Write prompts with completions by the tokenizer's chat template; files of messages are written so anyway."""
    prefix: str = ""
    """Text in front of every prompt with a completion."""
    keep_background: Share = 0.8
    """Probability, 0..1, that an example leaves colour 0 as it is; else colour 0 is permuted with the others."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(learning_rate=2e-3, warmup_fraction=0.03, weight_decay=0.1)
    )
    decay_fraction: Share = 1.0
    """Share of the run, 0..1, at whose end the learning rate falls. Below 1 it stays at its peak until then: warm-up,
    stable, decay (WSD)."""
    first_stage_steps: Natural = 0
    """Steps at the beginning in which only --first-stage-modules are trained and the rest is frozen. After them, if
    there are more, everything is trained, with a new optimizer."""
    first_stage_modules: tuple[str, ...] = ()
    """The modules of the first stage, such as embed_tokens: any part of a weight's name."""
    first_stage_learning_rate: NotNegative | None = None
    """Peak learning rate of the first stage; that of --optim where it is not given."""
    micro: MicroConfig = field(default_factory=MicroConfig)
    """Micro-step decoding (docs/micro.md)."""
    ema: Share = 0.0
    """Decay of an exponential moving average of the weights, such as 0.999; less in the first steps. The average is
    saved in OUT/ema and validated beside the weights themselves. 0 means that there is none."""
    precision: Precision = "auto"
    """Floating-point type of the computation; the weights themselves are fp32."""
    checkpointing: bool = False
    """Gradient checkpointing: activations are computed again in the backward pass, which takes less memory and a third
    more time."""
    compile: bool = False
    """Compile the network by torch.compile; results then differ by rounding."""
    seed: Seed = 0
    """Seed of weights and data; equal seeds give equal losses on one machine."""
    hold_out: Share = 0.05
    """Share of the rules, 0..1, that is kept for validation. A digest of the rule's id decides which they are."""
    validation_puzzles: Natural = 32
    """Held-out puzzles that are answered whenever the model is saved, greedily and in one view."""
    against: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    """Evaluation sets that no rule may come from."""
    drop_leaks: bool = False
    """Leave out rules and pairs that an evaluation set contains, and train on the rest."""
    allow_leak: bool = False
    """Train on everything, evaluation sets included; the model's card says so."""
    recipe: str = "box"
    """The recipe that the model's card names for `solve --recipe auto`."""
    save_every: Annotated[Count, ASIDE] = 1000
    """Steps between two savings of the model, each with validation and a checkpoint. It may change when a run is
    resumed."""
    keep_checkpoints: Annotated[Count, ASIDE] = 2
    """How many of the newest checkpoints are kept in OUT/checkpoints. It may change when a run is resumed."""
    keep_best: Annotated[bool, ASIDE] = False
    """Keep the saved model with the lowest validation loss in OUT/best, too. A run that begins anew replaces that of an
    earlier run."""
    data_workers: Annotated[Processes, ASIDE] = 0
    """Processes that make data ahead of time; results do not depend on it. It may change when a run is resumed."""
    track: Annotated[tuple[Literal["tensorboard", "wandb"], ...], ASIDE] = ()
    """Log there too, beside OUT/log.jsonl, where the package is installed. It may change when a run is resumed."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.adapter:
            object.__setattr__(self, "lora", lora_of(self.adapter))
        if problem := next(self._problems(), None):
            raise ConfigError(f"option {problem}")

    def _problems(self) -> Iterator[str]:
        """Options that do not go together."""
        if self.tokens_per_batch % (self.tokens_per_pass or self.tokens_per_batch):
            yield f"tokens_per_pass: found {self.tokens_per_pass}, expected a divisor of {self.tokens_per_batch}"
        if self.examples_per_batch and (self.tokens_per_pass or self.batching == "packed" or self.on_prompts):
            yield "examples_per_batch: found it with tokens_per_pass, packed batches or prompts, expected none of these"
        if self.start is None and (self.weights == "lora" or self.adapter or self.cut_vocabulary):
            yield "start: found none, expected a model folder for an adapter, or for a vocabulary to be cut"
        if self.architecture == "grid" and self.start is not None:
            yield "architecture: found grid, expected it for a new model alone"
        if self.start is None and self.encoder not in ("", "minimal"):
            yield f"encoder: found {self.encoder!r}, expected minimal: a new model has a token for each colour"
        if replaced := next(filter(self._replaces, (self.start, self.adapter)), None):
            yield f"start: found {replaced}, which the run itself replaces, expected a copy of it, or another --out"
        if self.four_bit and self.weights != "lora":
            yield "four_bit: found weights 'all', expected lora: weights in 4 bits cannot be trained themselves"
        if self.cut_vocabulary and self.weights == "lora" and {"embed_tokens", "lm_head"} & {*self.lora.modules}:
            yield "cut_vocabulary: found an adapter on embeddings or head, expected none: it would fit no other model"
        if self.on_prompts and (self.start is None or self.cut_vocabulary):
            yield "data: found prompts for a new model or a cut vocabulary, expected --start MODEL with all its tokens"
        if self.on_prompts and not all(entry.startswith(PROMPTS) for entry in self.data):
            yield f"data: found prompts beside {self.data}, expected prompts alone or none"
        if self.in_micro_steps and self.start is None:
            yield "micro: found it for a new model, expected --start MODEL"
        if self.in_micro_steps and (found := [name for name, is_there in self._against_micro_steps if is_there]):
            yield f"micro: found it with {', '.join(found)}, expected none of these: leave them at their defaults"
        if self.keep_best and not self.hold_out:
            yield "keep_best: found hold_out 0, expected a share that the best model is chosen by"
        if bool(self.first_stage_steps) != bool(self.first_stage_modules) or self.first_stage_steps > self.steps:
            yield (
                f"first_stage_steps: found {self.first_stage_steps} of {self.steps} and modules "
                f"{self.first_stage_modules}, expected at most all steps, and modules for them; or neither"
            )

    def _replaces(self, folder: Path | None) -> bool:
        """Whether a folder is one of those that the run writes beside its last model."""
        ours = [(self.out / name).resolve() for name in SAVED_BESIDE]
        return folder is not None and any(folder.resolve().is_relative_to(mine) for mine in ours)

    @property
    def _against_micro_steps(self) -> Iterable[tuple[str, object]]:
        """What does not go with micro steps, and whether it is there."""
        return {
            "cut_vocabulary": self.cut_vocabulary,
            "four_bit": self.four_bit,
            "packed batches": self.batching == "packed",
            "ema": self.ema,
            "compile": self.compile,  # passes differ in their number of segments
            "loss everything": self.loss == "everything",  # no answer would begin a segment, as each does in decoding
            "prompts as data": self.on_prompts,  # `evaluate-prompts` knows plain models alone
        }.items()

    @property
    def in_micro_steps(self) -> bool:
        """Whether a micro-step model is trained."""
        return self.micro.segments != "none"

    @property
    def on_prompts(self) -> bool:
        """Whether the data are prompts with completions."""
        return any(entry.startswith(PROMPTS) for entry in self.data)

    @property
    def n_passes(self) -> int:
        """Forward passes that add up to a step."""
        return self.tokens_per_batch // (self.tokens_per_pass or self.tokens_per_batch)

    def longest(self, step: int) -> int:
        """Longest example of a step, in tokens; steps count from 1."""
        if self.on_prompts:
            return self.max_tokens
        growth = min(1.0, (step - 1) / max(1.0, self.growing_fraction * self.steps))
        return round(self.first_max_tokens + growth * (self.max_tokens - self.first_max_tokens))
