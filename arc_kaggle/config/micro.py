"""The options of micro-step models in training, which are written beside their weights, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arc_kaggle.config.options import Count, Natural, NotNegative, Share, check_ranges
from arc_kaggle.errors import ModelError

MICRO_FILE = "micro.json"
"""What makes a folder one of a micro-step model."""
PARTS = BASE, REFERENCE = "base", "reference"
"""The folders of its two networks within it."""


@dataclass(frozen=True, slots=True)
class MicroConfig:
    """Micro-step decoding (docs/micro.md): several tokens become one position of the base model, and a small decoder
    writes them."""

    segments: Literal["none", "entropy", "confidence"] = "none"
    """none: a plain model. Else by what a reference model cuts a text into segments: the entropy of its next token in
    nats, or one less the probability of the likeliest one."""
    threshold: NotNegative = 0.3
    """A token of which the reference was less certain than this begins a segment."""
    budget: bool = False
    """A segment ends before the sum over its tokens passes the threshold, in place of each by itself."""
    window: Natural = 0
    """The reference sees so many tokens before each; all of them where it is 0."""
    most_tokens: Count = 8
    """Most tokens of a segment."""
    merger: Literal["weights", "mean", "last"] = "weights"
    """What a segment's embeddings become. weights: a mean with learnt weights in every dimension. mean: their mean.
    last: the last one alone."""
    layers: Count = 1
    """Layers of the decoder that writes a segment."""
    stop: Share = 0.9
    """In decoding a segment goes on while its decoder gives its next token a higher probability than this: at 1 every
    segment is one token, at 0 all have --micro.most-tokens."""
    reference: Path | None = None
    """Model folder of the reference; --start where it is not given. The plain folder of an earlier micro-step model
    refines the segments."""

    def __post_init__(self) -> None:
        check_ranges(self, "micro")


def has_micro_steps(model: Path) -> bool:
    """Whether a folder holds a micro-step model."""
    return (model / MICRO_FILE).is_file()


def check_plain(model: Path) -> None:
    """Refuse a micro-step model where a plain one is asked for. Raises ModelError."""
    if has_micro_steps(model):
        raise ModelError(
            f"model folder {model}: found a micro-step model, expected a plain one; take its base, {model / BASE}"
        )
