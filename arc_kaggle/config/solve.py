"""The configuration of a run: composes the stages' own configs, reads and writes them. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arc_kaggle.config.answer import NEED_SCORES, GenerateConfig, RescoreConfig, Selection
from arc_kaggle.config.engines import (
    DECODING,
    EngineChoice,
    Feature,
    HFConfig,
    TunerName,
    VLLMConfig,
    check_engine,
    check_tuner,
)
from arc_kaggle.config.json import nearest
from arc_kaggle.config.tune import RECIPES, Precision, TuneConfig
from arc_kaggle.errors import ConfigError, ModelError

BOX_FOLDER = Path(__file__).parents[1] / "box"
"""The model that ships with the package."""
CARD_FILE = "arc_kaggle.json"
"""What a model folder says of itself beside its weights."""


@dataclass(frozen=True, slots=True)
class SolveConfig:
    """Solve tasks: fine-tune on each, answer it under many views, vote, and write submission.json."""

    tasks: str
    """arc1:training, arc1:evaluation, arc2:training, arc2:evaluation, or a path to tasks in Kaggle's format."""
    out: Path
    """Folder for submission.json, predictions/, report.json and config.json."""
    select: str = ""
    """Which tasks: a position, a slice such as 0:20, ids with commas between, or shortest:N. All where empty."""
    model: Path = BOX_FOLDER
    """Hugging Face causal LM folder; the model that ships with the package where not given."""
    prompt: str = "auto"
    """How tasks are put to the model: plain, arc24, arc24-no-system, architects, nvarc, chat for the tokenizer's own
    chat template, or auto for what the model's card says (plain without a card)."""
    encoder: str = ""
    """How grids are written, such as shape+rows+minimal; what --prompt goes with where empty."""
    recipe: str = "auto"
    """What --tune is where it is not given: none, lora, box, arc24, poe, nvarc, or auto for what the model's card names
    (else lora)."""
    time_limit_minutes: float = 700.0
    """Minutes from the start until everything is on disk (12 h less 20 min). In a notebook the start is that of its
    kernel, or the Unix time in ARC_KAGGLE_STARTED; else that of this command."""
    precision: Precision = "auto"
    """Compute type of the model."""
    four_bit: bool = False
    """Keep the base's linear layers in 4 bits (nf4), embeddings, head and routers as they are. Wants bitsandbytes:
    pip install 'arc_kaggle[four-bit]'."""
    cut_vocabulary: bool = False
    """Keep only the tokens that prompts and answers are made of, in the embeddings and in the head."""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto for the first GPU where there is one."""
    engine: EngineChoice = "auto"
    """What generates: `hf` shares the model with fine-tuning; `vllm` has one of its own in a process of its own, and
    takes LoRA adapters alone; `fake` repeats the test input and needs no model (for tests). `auto` is vllm on GPUs
    where it is installed, can do what is asked, and its copy of the model takes little of one; else hf."""
    tuner: TunerName = "peft"
    """What fine-tunes: `peft` on the model that is loaded anyway, `unsloth` on one of its own, LoRA adapters alone."""
    seed: int = 0
    """Seed of views, examples and adapters; with the task's id it makes the task's own generator."""
    overwrite: bool = False
    """Replace the results that an earlier run left in --out."""
    in_process: bool = False
    """Run the model in this process instead of a child; no crash protection (for tests)."""
    max_tries: int = 4
    """Times that stages of a task may be lost, with their worker or by lack of memory; each further try is gentler.
    After that the task keeps what it has."""
    grace_seconds: float = 60.0
    """Seconds past a stage's own cap after which its worker counts as hung."""
    workers: int = 0
    """Worker processes, each with its own model; 0 is one for every GPU that can be seen; without any it is one, or for
    weights of up to 64 MiB one for every core (of OMP_NUM_THREADS where that is set)."""
    ray_address: str = ""
    """Address of a Ray cluster whose nodes the workers run on, or local for one on this machine; without Ray where
    empty. Every node must have this package, and the model at the same path. Wants pip install 'arc_kaggle[ray]'."""
    memory_gb: float | None = None
    """Host memory that all workers together may hold, in GB; above it the largest is ended and its stage done again,
    gentler. 90% of what the machine or its cgroup has where not given."""
    scratch: Path | None = None
    """Folder for adapters of tasks that are not through, and for compile caches; the system's temporary folder where
    not given. A run finds its own again."""
    scratch_gb: float = 20.0
    """Most GB of adapters; those not used for longest go first, and are made again where they are wanted."""
    plan: Path | None = None
    """The plan.json of an earlier run, to do its stages again, in its order and whatever the clock says."""
    quick_views: int = 2
    """Views of the first answer of every task, before any fine-tuning."""
    first_views: int = 8
    """Views of a task's first answer after fine-tuning; more, up to --generate.n-views, where time is left for them."""
    select_by: Selection = "votes"
    """How the two attempts are chosen among the candidates; poe, nvarc and probmul need --rescore.n-views, and verify
    --rescore.verify too."""
    hf: HFConfig = field(default_factory=HFConfig)
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    rescore: RescoreConfig = field(default_factory=RescoreConfig)
    tune: TuneConfig = None  # type: ignore[assignment]  # None: what --recipe says

    def __post_init__(self) -> None:
        if self.tune is None:
            object.__setattr__(self, "tune", recipe_of(self.model, self.recipe))
        if self.four_bit and self.tune.weights == "all":
            raise ConfigError(
                "option four_bit: found tune.weights 'all', expected lora or none, for weights in 4 bits cannot be "
                "trained; choose another recipe, such as lora"
            )
        if self.engine != "auto":
            check_engine(self.engine, wanted_features(self))
        check_tuner(self.tuner, set(wanted_features(self)) - set(DECODING))
        if self.select_by in NEED_SCORES and not self.rescore.n_views:
            raise ConfigError(
                f"option select_by: found {self.select_by} and rescore.n_views 0, expected scores to select by; add "
                "--rescore.n-views 8"
            )
        if self.select_by == "verify" and not self.rescore.verify:
            raise ConfigError(
                "option select_by: found verify without rescore.verify, expected verdicts to select by; add "
                "--rescore.verify"
            )
        counts = (
            ("generate.n_views", self.generate.n_views, 1),
            ("max_tries", self.max_tries, 1),
            ("workers", self.workers, 0),
            ("quick_views", self.quick_views, 1),
            ("first_views", self.first_views, 1),
            ("seed", self.seed, 0),
        )
        for name, value, least in counts:
            if value < least:
                raise ConfigError(f"option {name}: found {value}, expected {least} or more")
        if not self.time_limit_minutes > 0:
            raise ConfigError(
                f"option time_limit_minutes: found {self.time_limit_minutes}, expected more than 0 minutes"
            )


def wanted_features(config: SolveConfig) -> Iterator[Feature]:
    """What a run asks of its engine, beside one greedy answer to a prompt."""
    decoding, weights = config.generate.decoding, config.tune.weights
    features: Mapping[Feature, object] = {
        "sampling": decoding.temperature,
        "beams": decoding.beams > 1,
        "search": config.generate.p_min,
        "scores": config.rescore.n_views,
        "lora": weights == "lora",
        "all weights": weights == "all",
        "4 bits": config.four_bit,
        "cut vocabulary": config.cut_vocabulary,
    }
    return (feature for feature, is_wanted in features.items() if is_wanted)


def recipe_in_card(model: Path) -> str:
    """The recipe that a model's card names; lora where there is no card. Raises ModelError for one that names none."""
    path = model / CARD_FILE
    if not path.is_file():
        return "lora"
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path}: {error!r:.200}, expected a JSON object with a recipe, such as lora") from error
    if not isinstance(name, str):
        raise ModelError(f"{path}: found {name!r:.60} for a recipe, expected one of {', '.join(RECIPES)}")
    return name


def recipe_of(model: Path, recipe: str = "auto") -> TuneConfig:
    """The test-time fine-tuning of a named recipe; `auto` asks the model's card. Raises ConfigError, ModelError."""
    name = recipe if recipe != "auto" else recipe_in_card(model)
    if name not in RECIPES:
        raise ConfigError(
            f"recipe {name!r}: no such recipe{nearest(name, RECIPES)}; expected one of {', '.join(RECIPES)}"
        )
    return RECIPES[name]
