"""Placement of fine-tuning and vLLM on GPUs: together on one, on it in turns, or apart; planned from bytes.

Nothing of this has been tried on a GPU: the sizes come from formulas (memory_formulas.py), the reserves are guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from arc_kaggle.config.engines import MEMORY_HEADROOM, Kind
from arc_kaggle.errors import EngineError
from arc_kaggle.models.memory_formulas import GIB
from arc_kaggle.system.integers import ceil_div

RESERVE = 2 * GIB
"""Bytes of a GPU that are left for the context of vLLM's process, its activations and its CUDA graphs."""
HOST_RESERVE = 6 * GIB
"""Bytes of host memory for a worker's two processes, beside a model that waits there for its turn."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Bytes that the largest fine-tuning and the answers of one worker take."""

    held: int
    """Bytes of the weights that fine-tuning holds all the time; 0 without fine-tuning."""
    training: int
    """Bytes of a training step beside the weights: gradients, optimizer states and activations."""
    served: int
    """Bytes of the weights that vLLM holds, and of the adapters that it keeps room for."""
    cache: int
    """Bytes of the KV cache that is wanted."""
    least_cache: int
    """Bytes of the KV cache of one prompt and its answer; vLLM does not start with less."""

    @property
    def tuning(self) -> int:
        return round(MEMORY_HEADROOM * (self.held + self.training))

    @property
    def serving(self) -> int:
        """Least bytes that vLLM needs: its weights and the smallest KV cache."""
        return self.served + self.least_cache + RESERVE


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """The memory that workers share: that of each GPU, and that of the host, in bytes."""

    n_gpus: int
    gpu: int
    host: int
    n_workers: int = 0
    """How many workers are asked for; 0 for one on each GPU or pair of GPUs."""

    def a_worker(self, n_each: int) -> int:
        """Bytes of GPU memory for each worker, if every worker takes so many GPUs."""
        n_shares = self.n_gpus // n_each
        return self.gpu // ceil_div(max(self.n_workers, n_shares), n_shares)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where fine-tuning and vLLM live, and the bytes of KV cache that vLLM can have there."""

    kind: Kind
    cache: int

    @property
    def gpus_each(self) -> int:
        """How many GPUs a worker takes."""
        return 2 if self.kind == "apart" else 1


def place(demand: Demand, machine: MachineMemory, kind: Kind | None = None) -> Placement:
    """Choose the first placement that fits, or the one that is named. Raises EngineError with all sizes if none does.

    Together nothing waits for anything. In turns vLLM is started anew for every task, which takes less than the second
    GPU of a pair that stands still; the tuned model waits in the memory of the host meanwhile. Apart needs that least.
    """
    kinds: tuple[Kind, ...] = (kind,) if kind else ("together", "turns", "apart")
    lacking = {each: list(_lacking(each, demand, machine)) for each in kinds}
    for each, problems in lacking.items():
        if not problems:
            return Placement(each, min(demand.cache, _room(each, demand, machine)))
    ways = "; ".join(f"{each} {', '.join(problems)}" for each, problems in lacking.items())
    raise EngineError(
        f"option engine: found vllm, which cannot live beside the model that is tuned: {ways}. It wants "
        f"{_gib(demand.serving)} GiB ({_gib(demand.served)} of weights, {_gib(demand.least_cache)} or more of keys and "
        f"values, {_gib(RESERVE)} for itself), fine-tuning {_gib(demand.tuning)} with headroom ({_gib(demand.held)} of "
        f"weights, {_gib(demand.training)} of a step); lower --tune.max-tokens or --generate.max-prompt-tokens, or "
        "choose --engine hf, which shares the model with fine-tuning"
    )


def _lacking(kind: Kind, demand: Demand, machine: MachineMemory) -> Iterator[str]:
    n_each = 2 if kind == "apart" else 1
    if machine.n_gpus < n_each:
        yield f"wants {n_each} GPUs, found {machine.n_gpus}"
        return
    has = machine.a_worker(n_each)
    wanted = demand.serving + demand.tuning if kind == "together" else max(demand.serving, demand.tuning)
    if wanted > has:
        yield f"wants {_gib(wanted)} GiB of a GPU, of which a worker has {_gib(has)}"
    host = machine.host // max(machine.n_workers, machine.n_gpus)
    if kind == "turns" and demand.held + HOST_RESERVE > host:
        yield f"wants {_gib(demand.held + HOST_RESERVE)} GiB of the host, of which a worker has {_gib(host)}"


def _room(kind: Kind, demand: Demand, machine: MachineMemory) -> int:
    """Bytes that are left for the KV cache."""
    beside = demand.tuning if kind == "together" else 0
    return machine.a_worker(2 if kind == "apart" else 1) - beside - demand.served - RESERVE


def check_room(n_free: int, demand: Demand, cache: int) -> None:
    """Raise EngineError where vLLM would want more than is free now, whatever was planned."""
    wanted = demand.served + cache + RESERVE
    if wanted > n_free:
        raise EngineError(
            f"option engine: found vllm, which wants {_gib(wanted)} GiB ({_gib(demand.served)} of weights, "
            f"{_gib(cache)} of keys and values, {_gib(RESERVE)} for itself), but {_gib(n_free)} are free; lower "
            "--vllm.cache-gb, or choose --engine hf, which shares the model with fine-tuning"
        )


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.1f}"
