"""Embeddings of cells with coordinates, trained as sums: colour + row + column. At all other times they are stock.

What is learnt of a colour in one place then holds in all places, and of a place in all colours. From the same start,
a small model is far ahead of one whose 9,000 cells each learn alone (CHANGELOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.text.box_tokenizer import FRAME, ROWS, SYMBOLS

SHAPE = (10, ROWS, ROWS)
"""Colours, rows, columns of the cells, in the order of the vocabulary."""
PAD = FRAME.index("<pad>")
"""What follows from it as an input teaches it nothing, as in all of transformers' embeddings."""


class SumOfParts(nn.Module):
    """Embeddings (vocab, hidden) from five parts: frame, kind of a row's name, colours, rows, columns."""

    def forward(self, frame: Tensor, name: Tensor, colours: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        cells = colours[:, None, None] + rows[None, :, None] + columns[None, None, :]  # (colour, row, column, hidden)
        return torch.cat([frame, name + rows, cells.flatten(0, 2)])

    def right_inverse(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """The parts of embeddings that are sums, and the nearest to them where they are not quite."""
        sizes = [len(FRAME), ROWS, len(embeddings) - len(FRAME) - ROWS]
        frame, names, cells = embeddings.split(sizes)  # type: ignore[no-untyped-call]
        cells = cells.view(*SHAPE, -1)
        mean = cells.mean(dim=(0, 1, 2))
        colours, rows, columns = (cells.mean(dim=[d for d in range(3) if d != axis]) for axis in range(3))
        rows, columns = rows - mean, columns - mean
        return frame.clone(), (names - rows).mean(dim=0, keepdim=True), colours, rows, columns


class Tied(nn.Module):
    """The weight of a head that is the embeddings', whatever those are made of."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = [embeddings]  # in a list: its weights stay its own

    def forward(self, nothing: Tensor) -> Tensor:
        weight: Tensor = self.embeddings[0].weight  # type: ignore[assignment]
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.new_empty(0)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a split model in one table (parts, hidden): a step needs none of the 9,035 sums themselves.

    A token is three of its rows; the last is zero, for what has fewer parts.
    """

    table: Tensor

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (batch, time, hidden) of ids (batch, time), bit for bit those of the sums."""
        one, two, three = F.embedding(_ROWS_OF.to(ids.device)[ids], self.table, PAD).unbind(dim=-2)
        return one + two + three

    def summed_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Summed NLL in nats of targets (n,) after hidden states (n, hidden).

        A cell's logit is a sum over its three parts, so that the sum of exponentials over all cells is a product of
        three: the softmax over 9,035 tokens takes 76 products.
        """
        logits = hidden @ self.table.T  # (n, parts)
        frame, name, *cell, _ = logits.split([len(FRAME), 1, *SHAPE, 1], dim=1)  # type: ignore[no-untyped-call]
        colours, rows, columns = (part.logsumexp(dim=1, keepdim=True) for part in cell)
        normalizers = torch.cat([frame, name + rows, colours + rows + columns], dim=1).logsumexp(dim=1)
        own = logits.gather(1, _ROWS_OF.to(targets.device)[targets])  # (n, 3)
        return normalizers.sum() - own.sum()


def _rows_of() -> Tensor:
    """Rows (vocab, 3) of the table of parts that a token is the sum of."""
    n_frame, (n_colours, n_rows, n_columns) = len(FRAME), SHAPE
    colours, rows, columns = torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")
    first_row = n_frame + 1 + n_colours
    nothing = first_row + n_rows + n_columns
    cells = torch.stack([n_frame + 1 + colours, first_row + rows, first_row + n_rows + columns], dim=-1)
    frame = torch.tensor([[i, nothing, nothing] for i in range(n_frame)])
    names = torch.tensor([[n_frame, first_row + i, nothing] for i in range(n_rows)])
    return torch.cat([frame, names, cells.flatten(0, 2)])


_ROWS_OF = _rows_of()


def parts_of(network: Any) -> Parts | None:
    """The parts of a network that is split, to be used for one step; None of one that is not."""
    embeddings = network.get_input_embeddings()
    if not parametrize.is_parametrized(embeddings, "weight"):
        return None
    sums = embeddings.parametrizations.weight
    parts = [getattr(sums, f"original{i}") for i in range(2 + len(SHAPE))]
    return Parts(torch.cat([*parts, parts[0].new_zeros(1, parts[0].shape[1])]))


def has_parts(model: LoadedModel) -> bool:
    """Whether a model has the vocabulary of cells with coordinates, and a head tied to its embeddings.

    Of Llamas alone it is known that nothing scales what goes into the head or comes out of it.
    """
    network: Any = model.network
    ends = [network.get_input_embeddings().weight, network.get_output_embeddings().weight]
    known = SYMBOLS["coordinates"]
    return (
        model.encoder.spec == "coordinates"
        and network.config.model_type == "llama"
        and ends[0] is ends[1]
        and len(ends[0]) == len(known)
        and model.tokenizer.encode(known[-1], add_special_tokens=False) == [len(known) - 1]
    )


def split(model: LoadedModel) -> None:
    """Make the embeddings of such a model sums of parts, which are then what is trained; others stay as they are."""
    if not has_parts(model):
        return
    network: Any = model.network
    embeddings, head = network.get_input_embeddings(), network.get_output_embeddings()
    parametrize.register_parametrization(embeddings, "weight", SumOfParts())
    parametrize.register_parametrization(head, "weight", Tied(embeddings))


@torch.no_grad()
def merge(model: LoadedModel) -> None:
    """Make them stock again, with what the parts have become."""
    network: Any = model.network
    embeddings, head = network.get_input_embeddings(), network.get_output_embeddings()
    if not parametrize.is_parametrized(embeddings):
        return
    merged = nn.Parameter(embeddings.weight.clone())
    for end, left in ((head, False), (embeddings, True)):  # torch cannot leave the parts of a sum as they are
        parametrize.remove_parametrizations(end, "weight", leave_parametrized=left)
        del end.weight
        end.weight = merged


@contextmanager
def in_parts(model: LoadedModel) -> Iterator[None]:
    """Within it the model is split, where it has parts."""
    split(model)
    try:
        yield
    finally:
        merge(model)
