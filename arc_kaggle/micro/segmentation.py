"""Cuts token ids into segments where a reference language model is uncertain of the next token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.text.tokens import NOT_TRAINED


@torch.no_grad()
def uncertainty(reference: Any, ids: Tensor, config: MicroConfig) -> Tensor:
    """How uncertain the reference was of each token before it saw it, (batch, time); 0 for the first.

    Entropy is in nats, confidence as 1 - p of the likeliest token.
    """
    mask = None
    if config.window:
        places = torch.arange(ids.shape[1], device=ids.device)
        distance = places[:, None] - places
        seen = (distance >= 0) & (distance < config.window)
        dtype = reference.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=ids.device).masked_fill_(~seen, torch.finfo(dtype).min)
        mask = mask.expand(len(ids), 1, -1, -1)
    log_probs = reference(input_ids=ids, attention_mask=mask, use_cache=False).logits.float().log_softmax(-1)
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


def answer_begins(labels: Tensor) -> Tensor:
    """Where trained tokens begin behind others, (batch, time) bool: there a prompt ends, and so does its segment."""
    trained = labels != NOT_TRAINED
    begins = torch.zeros_like(trained)
    begins[:, 1:] = trained[:, 1:] & ~trained[:, :-1]
    return begins
