"""An exponential moving average of the weights (Polyak and Juditsky 1992), beside the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages in fp32. A step keeps the share `decay`, in the first steps less: (1 + n) / (10 + n) after n steps."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.n_updates = list(parameters), decay, 0
        self.averages: list[Tensor] = [parameter.detach().float().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(self.averages, [parameter.float() for parameter in self.parameters], 1 - decay)
        self.n_updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model has the averaged weights; after it the model has exactly its own again."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    def state(self) -> dict[str, Any]:
        return {"averages": self.averages, "n_updates": self.n_updates}

    def restore(self, state: dict[str, Any]) -> None:
        for average, value in zip(self.averages, state["averages"], strict=True):
            average.copy_(value)
        self.n_updates = state["n_updates"]

    @torch.no_grad()
    def _put(self, values: Iterable[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
