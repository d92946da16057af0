"""The options that solve, preflight and evaluate share: which model, how it is run, asked and fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from arc_kaggle.config.adapter import lora_of
from arc_kaggle.config.answer import GenerateConfig, RescoreConfig, Selection
from arc_kaggle.config.engines import FOUR_BIT_SKIP, GRID_MODEL_TYPE, EngineChoice, HFConfig, TunerName, VLLMConfig
from arc_kaggle.config.json import nearest
from arc_kaggle.config.micro import PARTS, has_micro_steps
from arc_kaggle.config.options import ASIDE, MOST_VIEWS, Processes, Range, Seed, Views
from arc_kaggle.config.tune import RECIPES, Precision, TuneConfig
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.system.inputs import read_json_file

BOX_FOLDER = Path(__file__).parents[1] / "box"
"""The model that ships with the package."""
CARD_FILE = "arc_kaggle.json"
"""What a model folder says of itself beside its weights."""
SMALL_BYTES = 2**26
"""Of weights: a step of a smaller model takes about as long on one core as on two, and trains all of them."""
BY_RECIPE = TuneConfig()
"""Stands for "not given": which fine-tuning it is, the recipe says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How any model is run and asked."""

    prompt: str = "auto"
    """The prompt format: plain, arc24, arc24-no-system, architects, nvarc, chat or chat-no-system for the
    tokenizer's own chat template, or auto for the one that the model's card names (plain without a card). The ends
    +no-prefill and +extract change it (docs/models.md)."""
    encoder: str = ""
    """How grids are written as text, such as shape+rows+minimal. The one that belongs to --prompt where it is
    empty."""
    precision: Precision = "auto"
    """Floating-point type that the model computes in; auto is bf16 where the device has it, else fp16 on a GPU and fp32
    on a CPU."""
    four_bit: bool = False
    """Keep the linear layers of the base model in 4 bits (nf4); embeddings and head stay as they are. This needs
    bitsandbytes: pip install 'arc_kaggle[four-bit]'."""
    four_bit_skip: tuple[str, ...] = FOUR_BIT_SKIP
    """Modules that are not quantised with --four-bit, and all below them: any part of a path, such as down_proj. They
    are added to the router of a mixture of experts and its experts; without a name these are quantised, too."""
    cut_vocabulary: bool = False
    """Keep only those rows of the embeddings and of the head whose tokens prompts and answers are made of."""
    device: str = "auto"
    """cpu, cuda, cuda:1, or auto for the first GPU where there is one."""
    engine: EngineChoice = "auto"
    """What generates. hf: the model that is fine-tuned, in this process. vllm: a copy of it in a process of its own,
    which takes LoRA adapters but no other weights. fake: no model at all, it repeats the test input (for tests). micro:
    a micro-step model. auto: micro for such a model; vllm on GPUs where it is installed, can do what is asked, and its
    copy takes little of their memory; else hf."""
    tuner: TunerName = "peft"
    """What fine-tunes. peft: the model that is loaded anyway. unsloth: a model of its own, and LoRA adapters alone."""
    seed: Seed = 0
    """Seed of views, training examples and adapters. Together with a task's id it seeds the task's own generator."""
    workers: Annotated[Processes, ASIDE] = 0
    """Worker processes, each with its own model. 0 means one for every visible GPU; without a GPU it means one, or for
    weights of up to 64 MiB one for every core (at most OMP_NUM_THREADS, where that is set)."""
    quick_views: Annotated[Views, Range(1, MOST_VIEWS)] = 2
    """Views of the first answer of every task, which comes before any fine-tuning."""
    first_views: Annotated[Views, Range(1, MOST_VIEWS)] = 8
    """Views of a task's first answer after fine-tuning. Up to --generate.n-views follow while time is left."""
    select_by: Selection = "votes"
    """How the two attempts are chosen among the candidates. poe, nvarc and probmul need --rescore.n-views; verify needs
    --rescore.verify too, and pairwise --rescore.pairs."""
    hf: HFConfig = field(default_factory=HFConfig)
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    rescore: RescoreConfig = field(default_factory=RescoreConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions(EngineOptions):
    """One model and its test-time fine-tuning."""

    model: Path = BOX_FOLDER
    """Folder of a Hugging Face causal language model; where it is not given, the model that ships with the package."""
    adapter: Path | None = None
    """LoRA adapter on that model, in peft's format. Every task's fine-tuning goes on from it, with its rank, scale and
    modules, and without fine-tuning it answers as it is. Its card comes before the model's."""
    recipe: str = "auto"
    """Test-time fine-tuning by name: none, lora, box, arc24, poe, nvarc, or auto for what the model's card names (lora
    without a card). It sets all of --tune that is not given."""
    tune: TuneConfig = BY_RECIPE
    """Test-time fine-tuning of every task. The defaults shown here are those that --recipe sets for --model; give both
    before --help to see those of another recipe or model."""

    def __post_init__(self) -> None:
        if self.tune is BY_RECIPE:
            object.__setattr__(self, "tune", recipe_of(self.card_folder, self.recipe))
        if self.adapter:
            object.__setattr__(self, "tune", replace(self.tune, lora=lora_of(self.adapter)))

    @property
    def card_folder(self) -> Path:
        """The folder whose card says how the model is asked and tuned."""
        return card_folder(self.model, self.adapter)


def card_folder(model: Path, adapter: Path | None) -> Path:
    """The adapter's folder where it has a card, else the model's."""
    return adapter if adapter and (adapter / CARD_FILE).is_file() else model


def options_of(config: EngineOptions, kind: type[EngineOptions]) -> dict[str, Any]:
    """The options of a config that `kind` declares, by name."""
    return {option.name: getattr(config, option.name) for option in fields(kind)}


def has_grid_positions(model: Path) -> bool:
    """Whether a folder holds a model whose tokens know their pair, row and column; what is no folder is found later."""
    try:
        found = read_json_file(model / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("model_type") == GRID_MODEL_TYPE


def is_small(model: Path) -> bool:
    """Whether the weights in a folder are few; what is no folder is found later."""
    folders = (model, *(model / part for part in PARTS)) if has_micro_steps(model) else (model,)
    files = (file for folder in folders for file in folder.glob("*.safetensors"))
    return 0 < sum(file.stat().st_size for file in files) <= SMALL_BYTES


def recipe_in_card(model: Path) -> str:
    """The recipe that a model's card names; lora where there is no card. Raises ModelError for one that names none."""
    path = model / CARD_FILE
    if not path.exists():
        return "lora"
    try:
        card = read_json_file(path)
        name = card["recipe"] if "recipe" in card or "prompt" not in card else "lora"
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
