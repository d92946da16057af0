"""Cuts token ids into segments where a reference language model is uncertain of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.text.tokens import NOT_TRAINED


def starts_of(reference: Any, ids: Tensor, config: MicroConfig, openers: Sequence[Tensor]) -> Tensor:
    """Where the segments of ids (batch, time) begin, (batch, time) bool; `openers` are those of each row."""
    return cut(uncertainty(reference, ids, config), config, behind(ids, openers))


@torch.no_grad()
def uncertainty(reference: Any, ids: Tensor, config: MicroConfig) -> Tensor:
    """How uncertain the reference was of each token before it saw it, (batch, time); 0 for the first.

    Entropy is in nats, confidence as 1 - p of the likeliest token. The reference computes in its own type, whatever
    the model around it computes in, so that training, decoding and scoring cut alike.
    """
    mask = None
    if config.window:
        places = torch.arange(ids.shape[1], device=ids.device)
        distance = places[:, None] - places
        seen = (distance >= 0) & (distance < config.window)
        dtype = reference.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=ids.device).masked_fill_(~seen, torch.finfo(dtype).min)
        mask = mask.expand(len(ids), 1, -1, -1)
    with torch.autocast(ids.device.type, enabled=False):
        logits = reference(input_ids=ids, attention_mask=mask, use_cache=False).logits
    log_probs = logits.float().log_softmax(-1)
    probs = log_probs.exp()
    found = -(probs * log_probs).sum(-1) if config.segments == "entropy" else 1 - probs.amax(-1)
    return torch.cat([torch.zeros_like(found[:, :1]), found[:, :-1]], dim=1)


def cut(uncertain: Tensor, config: MicroConfig, forced: Tensor | None = None) -> Tensor:
    """Where segments begin, (batch, time) bool: at uncertain tokens, at forced ones, and before they get too long."""
    starts = torch.zeros_like(uncertain, dtype=torch.bool) if forced is None else forced.clone()
    starts[:, 0] = True
    length = torch.zeros(len(uncertain), device=uncertain.device)
    total = torch.zeros_like(length)
    for t in range(uncertain.shape[1]):
        total = total + uncertain[:, t] if config.budget else uncertain[:, t]
        starts[:, t] |= (total > config.threshold) | (length >= config.most_tokens)
        length = torch.where(starts[:, t], 1, length + 1)
        total = torch.where(starts[:, t], 0, total)  # of its own first token a segment is never certain
    return starts


def openers_of(ids: Tensor, labels: Tensor) -> list[Tensor]:
    """The tokens of each row that trained tokens begin behind: with such a one a prompt ends, and so does its segment.

    Ids and labels (batch, time). In decoding it is the last token of the prompt.
    """
    trained = labels != NOT_TRAINED
    begins = trained[:, 1:] & ~trained[:, :-1]
    return [row[:-1][begun] for row, begun in zip(ids, begins, strict=True)]


def behind(ids: Tensor, openers: Sequence[Tensor]) -> Tensor:
    """Where tokens stand behind an opener of their row, (batch, time) bool: a segment begins with each of them.

    So the answers within a prompt are cut as the same answers were in training.
    """
    found = torch.zeros_like(ids, dtype=torch.bool)
    for row, own in enumerate(openers):
        found[row, 1:] = torch.isin(ids[row, :-1], own)
    return found
