"""Choice of the engine: `auto` becomes hf or vLLM, placed on GPUs, before a run begins, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec

from arc_kaggle.config.engines import ENGINES, EXTRA, VLLM_RANKS, Kind
from arc_kaggle.config.micro import has_micro_steps
from arc_kaggle.config.solve import SolveConfig, wanted_features
from arc_kaggle.engines.placement import Demand, MachineMemory, Placement, place
from arc_kaggle.errors import ConfigError, EngineError, ModelError
from arc_kaggle.models.memory_formulas import GIB, read_shape
from arc_kaggle.system.hardware import find_gpus, memory_ceiling, visible_gpus
from arc_kaggle.text.encoders import parse_encoder

USABLE = 0.97
"""Share of a GPU's memory that processes can use; the driver holds the rest."""
MOST_SHARE = 0.25
"""Largest share of a GPU for a second copy of the weights. Where it would take more, hf answers, which shares the
weights with fine-tuning. The value is a guess: on 24 GB it leaves models of 3B and more to hf."""
MOST_ANSWER = 2048
"""Most tokens of an answer: more than the largest grid has in any encoder but the repeating ones."""
KINDS: dict[Kind, str] = {
    "together": "on one GPU with fine-tuning",
    "turns": "on one GPU in turns with fine-tuning",
    "apart": "on a GPU of its own",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The config of a run in which nothing is left open, and why its engine is what it is."""

    config: SolveConfig
    reason: str

    def __str__(self) -> str:
        return f"engine {self.config.engine}: {self.reason}"


def settle(config: SolveConfig, n_workers: int | None = None) -> Choice:
    """Name the engine of a run that leaves it open, and plan where vLLM lives.

    `n_workers` share this machine; as many as the config says where not given. Raises EngineError where vLLM is named
    and cannot fit, ModelError where its model's sizes cannot be read, ConfigError for an encoder that is none.
    """
    if config.generate.fallback_encoder:
        parse_encoder(config.generate.fallback_encoder)
    on_nodes = config.ray_address and n_workers is None  # each says for itself what it has
    if config.engine in ("hf", "fake", "micro") or (on_nodes and config.engine == "vllm"):
        return Choice(config, "asked for")
    if has_micro_steps(config.model):
        return Choice(replace(config, engine="micro"), "the model has micro steps")
    if config.engine == "auto" and (against := next(_against_vllm(config), "")):
        return Choice(replace(config, engine="hf"), against)
    if not find_spec("vllm"):
        raise EngineError(f"option engine: found vllm, but its package is not installed; {EXTRA}")
    max_rank(config)
    machine = find_machine(config, config.workers if n_workers is None else n_workers)
    if machine is None:
        return Choice(config, "asked for")
    if config.engine == "vllm":
        placement = place(demand_of(config), machine, config.vllm.placement)
        return Choice(_placed(config, placement), f"asked for, {_told(placement)}")
    return _choose(config, machine)


def _choose(config: SolveConfig, machine: MachineMemory) -> Choice:
    """Choose vLLM if it fits beside fine-tuning with its whole KV cache, and its weights take a small part."""
    try:
        demand = demand_of(config)
        placement = place(demand, machine, "together")
    except (EngineError, ModelError) as error:
        return Choice(replace(config, engine="hf"), str(error))
    if placement.cache < demand.cache:
        why = f"beside fine-tuning {placement.cache / GIB:.1f} of {demand.cache / GIB:.1f} GiB of keys and values fit"
        return Choice(replace(config, engine="hf"), why)
    if demand.held > MOST_SHARE * machine.gpu:
        why = f"a second copy of the weights, {demand.held / GIB:.1f} GiB, is over {MOST_SHARE:.0%} of a GPU"
        return Choice(replace(config, engine="hf"), why)
    return Choice(_placed(replace(config, engine="vllm"), placement), f"it fits, {_told(placement)}")


def _against_vllm(config: SolveConfig) -> Iterator[str]:
    """Why vLLM cannot be chosen, whatever the sizes are; empty if nothing speaks against it."""
    if config.ray_address:
        yield "on a cluster vllm has to be asked for"
    if not find_spec("vllm"):
        yield "vllm is not installed"
    if find_machine(config, 1) is None:
        yield "there is no GPU for vllm"
    if lacking := sorted(set(wanted_features(config)) - ENGINES["vllm"]):
        yield f"vllm lacks {', '.join(lacking)}"
    try:
        max_rank(config)
    except ConfigError as error:
        yield str(error)


def max_rank(config: SolveConfig) -> int:
    """The value of vLLM's `max_lora_rank` for a run; 0 without adapters. Raises ConfigError if the rank is too high."""
    if config.tune.weights == "none" and config.adapter is None:
        return 0
    for rank in VLLM_RANKS:
        if rank >= config.tune.lora.rank:
            return rank
    raise ConfigError(
        f"option tune.lora.rank: found {config.tune.lora.rank}, expected {VLLM_RANKS[-1]} or less with --engine vllm"
    )


def longest_text(config: SolveConfig) -> int:
    """The context length in tokens that vLLM needs: the longest prompt and its answer."""
    return config.generate.max_prompt_tokens + MOST_ANSWER


def find_machine(config: SolveConfig, n_workers: int) -> MachineMemory | None:
    """The memory of the GPUs that a run can use, all taken to be as small as the smallest; None without a GPU."""
    n_gpus = len(visible_gpus(config.device)) or int(config.device.startswith("cuda:"))
    sizes = [gpu.memory_gib for gpu in find_gpus()] if n_gpus else []
    if not sizes:
        return None
    return MachineMemory(n_gpus, int(USABLE * min(sizes) * GIB), int(memory_ceiling()), n_workers)


def demand_of(config: SolveConfig) -> Demand:
    """The GPU memory that a run takes, computed from the config of its model. Raises ModelError."""
    shape, tune = read_shape(config.model), config.tune
    itemsize = 4 if config.precision == "fp32" else 2
    weights = shape.weight_bytes(itemsize, cut=config.cut_vocabulary)
    adapters = config.vllm.max_adapters * max_rank(config) * shape.adapter_sides(tune.lora) * itemsize
    a_slot, slots = shape.cache_bytes(itemsize), longest_text(config)
    least = slots * a_slot
    wanted = max(slots, min(config.generate.tokens_per_batch, config.generate.n_views * slots)) * a_slot
    if config.vllm.cache_gb is not None:
        wanted = least = int(config.vllm.cache_gb * GIB)
    held = weights if tune.weights != "none" else 0
    training = shape.training_bytes(tune, itemsize, weights)
    return Demand(held, training, weights + adapters, wanted, least)


def _placed(config: SolveConfig, placement: Placement) -> SolveConfig:
    vllm = replace(config.vllm, placement=placement.kind, cache_gb=placement.cache / GIB)
    return replace(config, vllm=vllm)


def _told(placement: Placement) -> str:
    return f"{KINDS[placement.kind]}, with {placement.cache / GIB:.1f} GiB of keys and values"
