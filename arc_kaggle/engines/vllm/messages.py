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
    """The name of a torch dtype: float32, bfloat16 or float16."""
    end_id: int
    n_vocabulary: int
    max_tokens: int
    """Context length in tokens: the longest prompt and its answer together."""
    max_rank: int = 0
    """Highest rank of a LoRA adapter, one of `VLLM_RANKS`; with 0 no adapter can be loaded."""


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
    """A request: generate tokens after some token ids."""

    number: int
    """The number that the answer carries; it is never used twice."""
    ids: TokenIds
    limit: int
    """Most new tokens, at least one."""
    n_likely: int = 0
    """How many of the likeliest tokens are reported at every position, beside the one that was taken."""
    temperature: float = 0.0
    seed: int = 0
    forced: TokenIds | None = None
    """The tokens that are taken whatever the model would say, (limit,), an end among them not being one."""
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """One more token of a request, with the model's own log-probabilities in nats, whatever was sampled or forced."""

    number: int
    token: int
    log_prob: float
    likeliest: tuple[tuple[int, float], ...]
    """The `n_likely` likeliest tokens: ids and log-probabilities in nats."""
    last: bool
