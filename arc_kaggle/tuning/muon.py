"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum, orthogonalised.

`torch.optim.Muon` takes the same steps, but orthogonalises in bf16 everywhere, one matrix at a time: on a CPU without
bf16 that is four times as slow, a third of a training step of a small model. On one that has it, bf16 takes half the
time of fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from arc_kaggle.tuning.eager import EagerOptimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration, which brings all singular values near 1."""
N_ITERATIONS = 5
MATCH_ADAMW = 0.2
"""Root mean square of AdamW's updates (Liu et al. 2025, arXiv:2502.16982): so one learning rate suits both."""


class Muon(EagerOptimizer):
    """Nesterov momentum, orthogonalised in `dtype`, with decoupled weight decay; for matrices of layers alone."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every matrix that has a gradient; those of one shape together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in by_shape.values():
                self._change(matrices, group)

    def _change(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        directions = torch.stack([self._direction(matrix, group["momentum"]) for matrix in matrices])
        directions = orthogonalised(directions.to(self.dtype))
        rate = group["lr"] * MATCH_ADAMW * max(matrices[0].shape) ** 0.5
        for matrix, direction in zip(matrices, directions.unbind(), strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-rate)

    def _direction(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov: the gradient again, on top of the momentum that it is part of."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices to some (n, rows, columns), roughly: singular values of 0.7 to 1.2."""
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.mT if tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(N_ITERATIONS):
        squares = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(squares, squares, squares, beta=b, alpha=c), found, beta=a)
    return found.mT if tall else found
