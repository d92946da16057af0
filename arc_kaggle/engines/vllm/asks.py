"""What is asked of vLLM and what comes back, as values that go between two processes; and the options of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arc_kaggle.errors import ConfigError
from arc_kaggle.tokens import TokenIds

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


@dataclass(frozen=True, slots=True)
class Served:
    """The model that the process loads."""

    folder: Path
    dtype: str
    """As torch names it: float32, bfloat16, float16."""
    end_id: int
    n_vocabulary: int
    max_tokens: int
    """Longest prompt and answer together."""
    max_rank: int = 0
    """Highest rank of an adapter, one of `VLLM_RANKS`; none can be loaded where 0."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter under a name, a number and a path that no other ever has.

    vLLM keys its cache of prefixes by the name and its weights by the number, and keeps old ones under a known key.
    """

    name: str
    number: int
    folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What may follow some ids."""

    number: int
    """Under which the answer comes, never used twice."""
    ids: TokenIds
    limit: int
    """Most tokens, at least one."""
    n_likely: int = 0
    """How many of the likeliest tokens are told at every place, beside the one that was taken."""
    temperature: float = 0.0
    seed: int = 0
    forced: TokenIds | None = None
    """The tokens that are taken whatever the model would say, (limit,), an end among them not being one."""
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """One more token of an ask, with the model's own log-probabilities in nats, whatever was sampled or forced."""

    number: int
    token: int
    log_prob: float
    likeliest: tuple[tuple[int, float], ...]
    """Ids and log-probabilities, `n_likely` of them."""
    last: bool
