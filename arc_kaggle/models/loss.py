"""Batches of fixed shapes and the loss on their labels, shared by training, fine-tuning and scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from arc_kaggle.models.label_rows import last_layer_at
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.system.integers import round_up
from arc_kaggle.text.tokens import NOT_TRAINED, Example

TensorBatch = tuple[Tensor, Tensor, Tensor | None]
"""Ids, labels and, where rows hold several examples, positions; (batch, time) each."""


@runtime_checkable
class SumsItsLoss(Protocol):
    """A network that predicts its labelled tokens in its own way."""

    def summed_loss(self, ids: Tensor, labels: Tensor, positions: Tensor | None) -> tuple[Tensor, int]:
        """As the function below."""
        ...


def collate(examples: Sequence[Example], pad_id: int, bucket: int) -> tuple[Tensor, Tensor]:
    """Ids and labels of a batch, padded on the right to one bucketed length; both (batch, time).

    A bucket makes few distinct lengths, and so few compiled kernels. Under a causal mask no token sees the padding
    behind it, so that no attention mask is needed.
    """
    length = round_up(max(len(example.ids) for example in examples), bucket)
    ids = torch.full((len(examples), length), pad_id)
    labels = torch.full((len(examples), length), NOT_TRAINED)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.from_numpy(example.ids)
        labels[row, : len(example.labels)] = torch.from_numpy(example.labels)
    return ids, labels


def completion_loss(model: LoadedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean NLL in nats of the labelled tokens; ids and labels (batch, time)."""
    total, n_labels = summed_loss(model, ids, labels)
    return total / n_labels


def summed_loss(model: LoadedModel, ids: Tensor, labels: Tensor, positions: Tensor | None = None) -> tuple[Tensor, int]:
    """(summed NLL in nats, number) of the labelled tokens; ids, labels and positions (batch, time).

    The head runs only where a label is. Where positions begin anew in a row, transformers lets nothing see what is
    before: no mask is given, and a cache would end that.
    """
    targets = F.pad(labels[:, 1:], (0, 1), value=NOT_TRAINED)  # (batch, time): what each token is followed by
    kept = targets != NOT_TRAINED
    if isinstance(model.network, SumsItsLoss):
        with model.computing():
            return model.network.summed_loss(ids, labels, positions)
    with model.computing(), last_layer_at(model.network, kept) as is_kept, _head_at(model.network, kept, is_kept):
        logits = model.network(input_ids=ids, position_ids=positions, use_cache=False).logits
    logits = logits.flatten(0, -2)  # (labels, vocab)
    return F.cross_entropy(logits.float(), targets[kept], reduction="sum"), int(kept.sum())


@contextmanager
def _head_at(network: Any, kept: Tensor, is_kept: bool) -> Iterator[None]:
    """Within it the head sees hidden states (labels, width) of some places alone, and so do the scales behind it.

    Where the last layer gives nothing else (`is_kept`), nothing is left to be done.
    """
    if is_kept:
        yield
        return
    hook = network.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0][kept],))
    try:
        yield
    finally:
        hook.remove()
