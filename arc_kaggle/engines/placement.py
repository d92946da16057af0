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
"""Bytes of a GPU for the context of vLLM's process, activations and graphs."""
HOST_RESERVE = 6 * GIB
"""Bytes of the host for a worker's two processes, beside a model that waits there for its turn."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Bytes that the largest fine-tuning and the answers of one worker take."""

    held: int
    """Weights that fine-tuning holds, whether it is at work or not; 0 without fine-tuning."""
    training: int
    """What a step takes beside them."""
    served: int
    """Weights that vLLM holds, and the adapters that it keeps room for."""
    cache: int
    """Keys and values that are wanted."""
    least_cache: int
    """Those of one prompt and its answer: vLLM does not start with less."""

    @property
    def tuning(self) -> int:
        return round(MEMORY_HEADROOM * (self.held + self.training))

    @property
    def serving(self) -> int:
        """At the least."""
        return self.served + self.least_cache + RESERVE


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """What workers share: GPUs of so many bytes each, and memory of the host."""

    n_gpus: int
    gpu: int
    host: int
    n_workers: int = 0
    """As many as asked for; one for each GPU, or pair of GPUs, where 0."""

    def a_worker(self, n_each: int) -> int:
        """Bytes of a GPU that a worker has, where each wants so many GPUs."""
        n_shares = self.n_gpus // n_each
        return self.gpu // ceil_div(max(self.n_workers, n_shares), n_shares)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where both live, and the bytes of keys and values that vLLM can have there."""

    kind: Kind
    cache: int

    @property
    def gpus_each(self) -> int:
        """GPUs of a worker."""
        return 2 if self.kind == "apart" else 1


def place(demand: Demand, machine: MachineMemory, kind: Kind | None = None) -> Placement:
    """The first way that fits, or the one that is named. Raises EngineError with all sizes where none does.

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
    """For keys and values."""
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
