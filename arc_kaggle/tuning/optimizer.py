"""The training step that `train` and test-time fine-tuning share: batches of fixed shapes, loss on labels only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arc_kaggle.config.tune import OptimConfig
from arc_kaggle.errors import TuneError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.loss import TensorBatch, summed_loss
from arc_kaggle.models.threads import follow_load
from arc_kaggle.text.tokens import NOT_TRAINED
from arc_kaggle.tuning.distributed import Team
from arc_kaggle.tuning.eager import EagerAdamW
from arc_kaggle.tuning.muon import Muon


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


def rate_scale(position: float, n_steps: int, config: OptimConfig, decay_fraction: float = 1.0) -> float:
    """The learning rate as a multiple of its peak, 0..1, after `position` of `n_steps` steps.

    It rises during warm-up, stays, and falls in the last `decay_fraction` of the steps, at once where that is all.
    """
    warmup = round(config.warmup_fraction * n_steps)
    if position < warmup:
        return position / warmup
    if config.schedule == "constant_with_warmup":
        return 1.0
    begin = max(warmup, (1 - decay_fraction) * n_steps)
    fallen = min(1.0, max(0.0, (position - begin) / max(1.0, n_steps - begin)))
    return 1 - fallen if config.schedule == "linear" else (1 + math.cos(math.pi * fallen)) / 2


def inner_matrices(network: Any, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those of the parameters that are matrices of the network's layers: neither embeddings nor the head."""
    tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    outer = {id(p) for end in (*tables, network.get_output_embeddings()) if end is not None for p in end.parameters()}
    return [parameter for parameter in parameters if parameter.ndim == 2 and id(parameter) not in outer]


def make_optimizers(
    network: Any, parameters: Sequence[nn.Parameter], config: OptimConfig, autocast: torch.dtype | None = None
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; or Muon for the matrices of the layers, in bf16 where that is `autocast`, and AdamW."""
    muon = inner_matrices(network, parameters) if config.matrices == "muon" else []
    taken = {id(matrix) for matrix in muon}
    groups = parameter_groups(network, [p for p in parameters if id(p) not in taken], config)
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        dtype = torch.bfloat16 if autocast is torch.bfloat16 else torch.float32
        optimizers.append(Muon(muon, config.learning_rate, config.weight_decay, dtype=dtype))
    if groups:
        optimizers.append(EagerAdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True))
    return optimizers


class Optimizer:
    """Optimizers of some parameters of a model, with one schedule; a `step` per batch, or an `update` for several."""

    def __init__(
        self,
        model: LoadedModel,
        parameters: Iterable[nn.Parameter],
        config: OptimConfig,
        n_steps: int,
        decay_fraction: float = 1.0,
        team: Team | None = None,
    ) -> None:
        self.model, self.config, self.n_steps, self.decay_fraction = model, config, n_steps, decay_fraction
        self.team = team or Team(0, 1, model.device)
        self.parameters = list(parameters)
        self.n_updates = 0
        self.optimizers = make_optimizers(model.network, self.parameters, config, model.autocast)
        self.peaks = [group["lr"] for group in self.groups]
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=model.autocast is torch.float16)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Parameters with a learning rate each, of all optimizers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, ids: Tensor, labels: Tensor) -> float:
        """One update from one batch; returns the loss in nats. Raises TuneError where it is not finite."""
        return self.update([(ids, labels, None)])

    def update(self, batches: Sequence[TensorBatch], time_share: float = 0.0) -> float:
        """One update from batches (ids, labels, positions), as from one that holds them all; returns its mean loss.

        The schedule is as far as the steps or the share of the time, 0..1, whichever is further. Raises TuneError
        before the update where loss or gradient is not finite. In fp16 a gradient that overflows lowers the scale of
        the loss instead, and that update is left out.
        """
        follow_load(self.model.device)
        self._set_rates(max(self.n_updates, time_share * self.n_steps))
        value = self._backward(batches)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        too_large = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if not (math.isfinite(value) and (bool(norm.isfinite()) or too_large)):
            self._zero_grad()
            raise TuneError(f"loss {value} with gradient norm {norm.item()}, expected finite numbers")
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._zero_grad()
        self.n_updates += 1
        return value

    def state(self) -> dict[str, Any]:
        """All that the next update depends on beside the weights."""
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"optimizers": states, "n_updates": self.n_updates, "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.scaler.load_state_dict(state["scaler"])
        self.n_updates = state["n_updates"]

    def _set_rates(self, position: float) -> None:
        scale = rate_scale(position, self.n_steps, self.config, self.decay_fraction)
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * scale

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _backward(self, batches: Sequence[TensorBatch]) -> float:
        """Gradients of the mean over the labels of all batches of the team; returns that mean."""
        device = self.model.device
        (n_labels,) = self.team.totals(sum(int((labels[:, 1:] != NOT_TRAINED).sum()) for _, labels, _ in batches))
        mean = torch.zeros((), device=device)
        for batch in batches:
            total, _ = summed_loss(self.model, *_moved(batch, device))
            loss = total / n_labels if n_labels else total * math.nan
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            mean += loss.detach()
        self.team.sum([mean, *(p.grad for p in self.parameters if p.grad is not None)])
        return mean.item()


def _moved(batch: TensorBatch, device: torch.device) -> TensorBatch:
    ids, labels, positions = batch
    at = None if positions is None else positions.to(device, non_blocking=True)
    return ids.to(device, non_blocking=True), labels.to(device, non_blocking=True), at
