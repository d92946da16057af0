"""The training step that `train` and test-time fine-tuning share: batches of fixed shapes, loss on labels only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_kaggle.errors import TuneError
from arc_kaggle.model import LoadedModel
from arc_kaggle.recipe import OptimConfig
from arc_kaggle.tokens import NOT_TRAINED, Example


def padded_length(n_tokens: int, bucket: int) -> int:
    """`n_tokens` rounded up to a multiple of `bucket`: few distinct lengths, few compiled kernels."""
    return math.ceil(n_tokens / bucket) * bucket


def collate(examples: Sequence[Example], pad_id: int, bucket: int) -> tuple[Tensor, Tensor]:
    """Ids and labels of a batch, padded on the right to one bucketed length; both (batch, time).

    Under a causal mask nothing before it sees the padding, so no attention mask is needed.
    """
    length = padded_length(max(len(example.ids) for example in examples), bucket)
    ids = torch.full((len(examples), length), pad_id)
    labels = torch.full((len(examples), length), NOT_TRAINED)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
        labels[row, : len(example.labels)] = torch.from_numpy(example.labels)
    return ids, labels


def completion_loss(model: LoadedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean NLL in nats of the labelled tokens; ids and labels (batch, time). The head runs only where a label is."""
    targets = labels[:, 1:]  # (batch, time - 1)
    kept = (targets != NOT_TRAINED).any(dim=0).nonzero().squeeze(1)  # (kept,)
    with model.computing():
        logits = model.network(input_ids=ids, logits_to_keep=kept, use_cache=False).logits  # (batch, kept, vocab)
    return F.cross_entropy(logits.float().flatten(0, 1), targets[:, kept].flatten(), ignore_index=NOT_TRAINED)


def parameter_groups(network: Any, parameters: Sequence[nn.Parameter], config: OptimConfig) -> list[dict[str, Any]]:
    """Groups of AdamW: matrices decay, vectors do not; what belongs to embeddings and head may have its own rate."""
    own = config.embedding_learning_rate
    ends = [end for end in (network.get_input_embeddings(), network.get_output_embeddings()) if end is not None]
    at_ends = {id(parameter) for end in ends for parameter in end.parameters() if own is not None}
    rates = [(False, config.learning_rate), (True, own)]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in parameters if (p.ndim >= 2) is matrix and (id(p) in at_ends) is at_end],
            "lr": rate,
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for at_end, rate in rates
        for matrix in (True, False)
    ]
    return [group for group in groups if group["params"]]


class Optimizer:
    """AdamW over some parameters of a model, with a schedule; one `step` per batch."""

    def __init__(
        self, model: LoadedModel, parameters: Iterable[nn.Parameter], config: OptimConfig, n_steps: int
    ) -> None:
        from transformers import get_scheduler

        self.model = model
        self.parameters = list(parameters)
        self.max_grad_norm = config.max_grad_norm
        self.adamw = torch.optim.AdamW(
            parameter_groups(model.network, self.parameters, config),
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        warmup = round(config.warmup_fraction * n_steps)
        self.schedule = get_scheduler(config.schedule, self.adamw, warmup, n_steps)

    def step(self, ids: Tensor, labels: Tensor) -> float:
        """One update; returns the loss in nats. Raises TuneError before the update where it is not finite."""
        device = self.model.device
        loss = completion_loss(self.model, ids.to(device), labels.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        value = loss.item()
        if not (math.isfinite(value) and bool(norm.isfinite())):
            self.adamw.zero_grad()
            raise TuneError(f"loss {value} with gradient norm {norm.item()}, expected finite numbers")
        self.adamw.step()
        self.schedule.step()
        self.adamw.zero_grad()
        return value
