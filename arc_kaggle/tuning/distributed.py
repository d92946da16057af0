"""The processes that train one model together, one a GPU, as `accelerate launch` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

import torch
from torch import Tensor

from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loading import pick_device


@dataclass(frozen=True, slots=True)
class Team:
    """Which of how many processes this is, and its device. Sums are over all processes, and the same in each."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process validates, saves and shows progress."""
        return self.rank == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum, in place."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def totals(self, *numbers: float) -> list[float]:
        """The sum of each number."""
        counts = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.sum([counts])
        return [float(count) for count in counts.tolist()]

    def leave(self) -> None:
        """End it, when there is nothing left to sum: the threads of a team that is not ended may abort the process."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join_team() -> Team:
    """The team that the launcher of this process made, or this process alone. Raises ConfigError without accelerate."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(0, 1, pick_device("auto"))
    if find_spec("accelerate") is None:
        raise ConfigError("several processes: found no package accelerate, expected it; pip install accelerate")
    from accelerate import PartialState  # type: ignore[import-untyped]

    # while the first process validates and saves, the others wait for their next sum
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(hours=4))
    return Team(state.process_index, state.num_processes, torch.device(state.device))
