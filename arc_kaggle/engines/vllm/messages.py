"""Messages between this process and the one that holds vLLM: requests, tokens with log-probabilities, options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arc_kaggle.text.tokens import TokenIds


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
