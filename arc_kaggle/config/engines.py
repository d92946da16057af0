"""The options of engines and tuners, and what each of them can do; a run that asks for more is refused at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from arc_kaggle.config.options import ASIDE, Count, Positive, check_ranges
from arc_kaggle.errors import EngineError

EngineName = Literal["hf", "fake", "vllm", "micro"]
EngineChoice = EngineName | Literal["auto"]
TunerName = Literal["peft", "unsloth"]
Name = TypeVar("Name", bound=str)
Feature = Literal[
    "sampling",
    "beams",
    "search",
    "scores",
    "lora",
    "all weights",
    "4 bits",
    "cut vocabulary",
    "grid positions",
    "micro steps",
]

GRID_MODEL_TYPE = "arc_grid_lm"
"""Of config.json in the folder of a model whose tokens know their pair, row and column."""

FOUR_BIT_SKIP = ("gate", "router", "experts")
"""Modules that are not quantised beside the head: the routers of a mixture of experts, and the experts."""

MEMORY_HEADROOM = 1.2
"""Projected memory times this must be available: buffers and logits are not in the projection."""
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the highest rank of its adapters."""

DECODING: tuple[Feature, ...] = ("sampling", "beams", "search", "scores")

ENGINES: Mapping[EngineName, frozenset[Feature]] = {
    "hf": frozenset((*DECODING, "lora", "all weights", "4 bits", "cut vocabulary", "grid positions")),
    "vllm": frozenset((*DECODING, "lora", "cut vocabulary")),  # adapters alone reach it, and its base is in one piece
    # there are no weights, so nothing of them is lacking
    "fake": frozenset(("search", "scores", "lora", "all weights", "4 bits", "cut vocabulary", "grid positions")),
    "micro": frozenset(("sampling", "scores", "grid positions", "micro steps")),
}
TUNERS: Mapping[TunerName, frozenset[Feature]] = {
    "peft": frozenset(("lora", "all weights", "4 bits", "cut vocabulary", "grid positions")),
    "unsloth": frozenset(("lora",)),  # it loads the folder itself, in one piece
}


def check_engine(engine: EngineName, wanted: Iterable[Feature]) -> None:
    """Raise EngineError where an engine lacks something that a run asks for."""
    _check("engine", engine, wanted, ENGINES)


def check_tuner(tuner: TunerName, wanted: Iterable[Feature]) -> None:
    """Raise EngineError where a tuner lacks something that a run asks for."""
    _check("tuner", tuner, wanted, TUNERS)


def _check(option: str, name: Name, wanted: Iterable[Feature], known: Mapping[Name, frozenset[Feature]]) -> None:
    wanted = set(wanted)
    if lacking := sorted(wanted - known[name]):
        others = [other for other, can in known.items() if wanted <= can]
        ways = f"choose --{option} {' or '.join(others)}" if others else "no other one has all that is asked for"
        out = ", or --recipe lora" if lacking == ["all weights"] else ""
        raise EngineError(f"option {option}: found {name}, which lacks {', '.join(lacking)}; {ways}{out}")


@dataclass(frozen=True, slots=True)
class HFConfig:
    """The engine on transformers, or on a GridLM alone, `--engine hf`."""

    compile: bool = False
    """Compile the decode steps by torch.compile, on a GPU into CUDA graphs. The first steps then take a minute or more,
    and answers may differ by rounding. Steps of several LoRA adapters at once are not compiled. This has never been
    measured on a GPU."""


EXTRA = "pip install 'arc_kaggle[vllm]'; on a machine without a GPU: make test-backends"


Kind = Literal["together", "turns", "apart"]
"""How fine-tuning and vLLM share GPUs."""
USUAL_CACHE_GB = 4.0


@dataclass(frozen=True, slots=True)
class VLLMConfig:
    """The engine on vLLM, `--engine vllm`, which runs in a process of its own."""

    placement: Annotated[Kind | None, ASIDE] = None
    """How vLLM and fine-tuning share GPUs: together on one GPU at the same time, in turns on one GPU, or apart on two
    GPUs. Where it is not given, the first of these that fits."""
    cache_gb: Annotated[Positive | None, ASIDE] = None
    """GiB of KV cache, beside the weights. Where it is not given, as much as the answers need and the GPU holds (4 on a
    CPU)."""
    max_rows: Count = 128
    """Most sequences in a batch."""
    max_adapters: Count = 2
    """Most LoRA adapters in a batch; their memory is reserved at the start."""
    eager: bool = False
    """Start in seconds, without compilation; on a GPU answers then take longer."""
    patience_seconds: Positive = 120.0
    """Seconds without a message from vLLM's process after which it counts as hung and is started again."""
    start_seconds: Positive = 900.0
    """Most seconds that vLLM's process may take to start."""
    adapters_a_life: Count = 100
    """LoRA adapters after which vLLM's process is started afresh, because its memory has been seen to grow with
    them."""
    growth_gb: Positive = 4.0
    """GB of host memory by which vLLM's process may grow before it is started afresh."""

    def __post_init__(self) -> None:
        check_ranges(self, "vllm")

    @property
    def cache_bytes(self) -> int:
        """Of keys and values; where nobody has said or planned how many, a usual number."""
        return int((self.cache_gb or USUAL_CACHE_GB) * 2**30)
