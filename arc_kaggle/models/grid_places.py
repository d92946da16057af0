"""The places of whole batches of tokens at once: what `arc_kaggle.text.grid_positions` says token by token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from arc_kaggle.text.grid_positions import LAST_PLACE, GridPositions


def places_of(ids: Tensor, machine: GridPositions, depths: Tensor | None = None) -> Tensor:
    """The place (grid, row, column) of every token, (batch, time, 3); ids (batch, time).

    Every row begins at the start. Where `depths` (batch, time) are given, it begins there anew wherever they are 0.
    """
    begins, inputs, outputs = ids == machine.begin, ids == machine.input, ids == machine.output
    if depths is not None:
        begins = begins | F.pad(depths[:, 1:] == 0, (0, 1))
    firsts, newlines = begins | inputs | outputs, ids == machine.newline
    pairs, is_output = _since(inputs, begins), _since(outputs, begins | inputs).clamp(max=1)
    rows = _since(newlines, firsts).clamp(max=LAST_PLACE)
    columns = _since(torch.ones_like(firsts), firsts | newlines).clamp(max=LAST_PLACE)
    behind = torch.stack([2 * pairs + is_output, rows, columns], dim=-1)  # each token
    return F.pad(behind[:, :-1], (0, 0, 1, 0))


def _since(counted: Tensor, resets: Tensor) -> Tensor:
    """How many tokens are `counted`, up to each and with it, behind the last one that `resets`; all (batch, time)."""
    total = counted.long().cumsum(dim=1)
    return total - torch.where(resets, total, 0).cummax(dim=1).values


def next_places(places: Tensor, ids: Tensor, machine: GridPositions) -> Tensor:
    """The place behind every token, where what it predicts will stand; places and result (batch, time, 3)."""
    grid, row, column = places.unbind(dim=-1)
    begins, inputs, outputs = ids == machine.begin, ids == machine.input, ids == machine.output
    firsts, newlines = begins | inputs | outputs, ids == machine.newline
    grid = torch.where(outputs, grid | 1, torch.where(inputs, (grid | 1) + 1, grid))
    row = (row + newlines.long()).clamp(max=LAST_PLACE).masked_fill(firsts, 0)
    column = (column + 1).clamp(max=LAST_PLACE).masked_fill(firsts | newlines, 0)
    return torch.stack([grid.masked_fill(begins, 0), row, column], dim=-1)
