"""What each engine and tuner can do. What it lacks is refused by name before a run, never done in another way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from arc_kaggle.errors import EngineError

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
