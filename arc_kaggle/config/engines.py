"""What each engine and tuner can do. What it lacks is refused by name before a run, never done in another way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from arc_kaggle.errors import ConfigError, EngineError

EngineName = Literal["hf", "fake", "vllm"]
EngineChoice = EngineName | Literal["auto"]
TunerName = Literal["peft", "unsloth"]
Name = TypeVar("Name", bound=str)
Feature = Literal["sampling", "beams", "search", "scores", "lora", "all weights", "4 bits", "cut vocabulary"]

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the highest rank of its adapters."""

DECODING: tuple[Feature, ...] = ("sampling", "beams", "search", "scores")

ENGINES: Mapping[EngineName, frozenset[Feature]] = {
    "hf": frozenset((*DECODING, "lora", "all weights", "4 bits", "cut vocabulary")),
    "vllm": frozenset((*DECODING, "lora", "cut vocabulary")),  # adapters alone reach it, and its base is in one piece
    "fake": frozenset(("search", "scores", "lora", "all weights", "4 bits", "cut vocabulary")),  # there are no weights
}
TUNERS: Mapping[TunerName, frozenset[Feature]] = {
    "peft": frozenset(("lora", "all weights", "4 bits", "cut vocabulary")),
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
    """How the network is run. Answers differ by rounding at most."""

    compile: bool = False
    """Compile the steps behind the prompt by torch.compile, on a GPU into CUDA graphs. The first steps then take a
    minute or more; rows with adapters by name go uncompiled. Never measured on a GPU."""


EXTRA = "pip install 'arc_kaggle[vllm]'; on a machine without a GPU: make test-backends"


Kind = Literal["together", "turns", "apart"]
"""How fine-tuning and vLLM share GPUs."""
USUAL_CACHE_GB = 4.0


@dataclass(frozen=True, slots=True)
class VLLMConfig:
    """The engine on vLLM, a process of its own."""

    placement: Kind | None = None
    """`together` on the GPU of fine-tuning, on it in `turns`, or `apart` on another one; where not given the first of
    them that fits."""
    cache_gb: float | None = None
    """GiB of keys and values, beside the weights; where not given what answers want, as far as it fits (4 on a CPU)."""
    max_rows: int = 128
    """Most completions that grow together."""
    max_adapters: int = 2
    """Most adapters in a batch; memory for so many is reserved."""
    eager: bool = False
    """Start in seconds, without compiling anything; answers then take longer on a GPU."""
    patience_seconds: float = 120.0
    """Seconds without a word from the engine's process after which it counts as hung and is started again."""
    start_seconds: float = 900.0
    """Most seconds that it may take to start."""
    adapters_a_life: int = 100
    """Adapters after which the process is renewed between two calls: its memory has been seen to grow with them."""
    growth_gb: float = 4.0
    """GB of host memory by which it may grow before it is renewed."""

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_adapters", "adapters_a_life"):
            if getattr(self, name) < 1:
                raise ConfigError(f"option vllm.{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("cache_gb", "patience_seconds", "start_seconds", "growth_gb"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"option vllm.{name}: found {getattr(self, name)}, expected more than 0")

    @property
    def cache_bytes(self) -> int:
        """Of keys and values; where nobody has said or planned how many, a usual number."""
        return int((self.cache_gb or USUAL_CACHE_GB) * 2**30)
