"""What a run asks of a machine: memory projected from the shape of the network, time from a few measured passes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from arc_kaggle.attention import LONGEST
from arc_kaggle.dataset import Tasks
from arc_kaggle.generate import GenerateConfig
from arc_kaggle.lengths import answer_tokens, count
from arc_kaggle.model import LoadedModel
from arc_kaggle.optim import padded_length
from arc_kaggle.prompt import query_prompt
from arc_kaggle.recipe import TuneConfig
from arc_kaggle.tokens import TokenIds, token_limit, tokenize

GIB = 2**30
BUCKET = 64
"""Lengths are rounded up to a multiple of this many tokens."""
PASSES_PER_STEP = 3
"""Forward passes that a training step takes as long as: the backward pass counts two."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a run at its largest; tuning and answering come one after the other, beside the weights."""

    weights: int
    cache: int
    """Keys and values of the largest batch of prompts and answers."""
    training: int
    """What is trained, its gradient and AdamW's two moments, the copy of the base, and the activations of a step."""

    @property
    def peak(self) -> int:
        return self.weights + max(self.cache, self.training)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "keys and values": self.cache, "fine-tuning": self.training}
        return ", ".join(f"{name} {bytes / GIB:.2f}" for name, bytes in parts.items())


def project_memory(model: LoadedModel, generate: GenerateConfig, tune: TuneConfig) -> Footprint:
    """The footprint of the longest prompts and examples that the configs allow."""
    network: Any = model.network
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    n_slots = padded_length(generate.max_prompt_tokens, BUCKET) + generate.max_new_tokens
    n_rows = max(1, generate.tokens_per_batch // n_slots)
    cache = n_rows * n_slots * cache_bytes(network)
    return Footprint(weights, cache, _training_bytes(network, tune))


def cache_bytes(network: Any) -> int:
    """Bytes of one token's keys and values; sliding windows are not counted as such, so it is the most there can be."""
    shape = network.config.get_text_config()
    n_heads = shape.num_attention_heads
    n_kept = getattr(shape, "num_key_value_heads", None) or n_heads
    head_size = getattr(shape, "head_dim", None) or shape.hidden_size // n_heads
    return int(2 * shape.num_hidden_layers * n_kept * head_size * network.dtype.itemsize)


def _training_bytes(network: nn.Module, tune: TuneConfig) -> int:
    """Four numbers for each that is trained: gradient, two moments, and the adapter in fp32 or the copy of the base."""
    if tune.weights == "none":
        return 0
    longest = padded_length(tune.max_tokens, tune.bucket)
    activations = tune.examples_a_step(longest) * longest * _activation_bytes(network, longest, tune.checkpointing)
    if tune.weights == "all":
        return activations + 4 * sum(p.numel() * p.element_size() for p in network.parameters())
    sides = sum(_sides(module) for module in _adapted(network, tune.lora.modules))
    return activations + 4 * 4 * tune.lora.rank * sides


def _adapted(network: nn.Module, names: Sequence[str]) -> Iterator[nn.Module]:
    """The modules that an adapter is attached to; for `all-linear` the head too, so it is the most there can be."""
    for path, module in network.named_modules():
        linear = isinstance(module, nn.Linear) and "all-linear" in names
        if linear or any(f".{path}".endswith(f".{name}") for name in names):
            yield module


def _sides(module: Any) -> int:
    """Inputs and outputs: a factor has its rank times one of them."""
    if isinstance(module, nn.Embedding):
        return module.num_embeddings + module.embedding_dim
    return int(module.in_features + module.out_features)


def _activation_bytes(network: Any, longest: int, checkpointing: bool) -> int:
    """Of one token in training, kept for the backward pass: about 8 vectors of the width and 4 of the MLP a layer.

    On a CPU the weights of its attention, too, two bytes each. With checkpointing it is one vector of the width a
    layer, and what one layer keeps.
    """
    shape = network.config.get_text_config()
    n_inner = getattr(shape, "intermediate_size", None) or 4 * shape.hidden_size
    a_layer = (8 * shape.hidden_size + 4 * n_inner) * network.dtype.itemsize
    if network.device.type == "cpu" and longest <= LONGEST:
        a_layer += shape.num_attention_heads * longest  # half of them lie behind the causal mask
    n_layers = shape.num_hidden_layers
    a_width = n_layers * shape.hidden_size * network.dtype.itemsize
    return int(a_width + a_layer if checkpointing else n_layers * a_layer)


def available_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """Memory that a process may still take: a GPU's own, else the least of the machine's and its cgroup's (1 and 2)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    groups = root / "sys/fs/cgroup"
    limits = [
        _left_in(groups / "memory.max", groups / "memory.current"),
        _left_in(groups / "memory/memory.limit_in_bytes", groups / "memory/memory.usage_in_bytes"),
        _left_in_machine(root / "proc/meminfo"),
    ]
    return min(limit for limit in limits if limit is not None)


def _left_in(limit: Path, used: Path) -> int | None:
    """Bytes left in a cgroup, file cache that it may drop counted as left; None where it has no limit."""
    try:
        total, taken = limit.read_text().strip(), int(used.read_text())
        lines = [line.split() for line in limit.with_name("memory.stat").read_text().splitlines()]
    except OSError:
        return None
    droppable = max((int(n) for name, n in lines if name in ("inactive_file", "total_inactive_file")), default=0)
    return None if total == "max" else int(total) - taken + droppable


def _left_in_machine(meminfo: Path) -> int:
    if not meminfo.is_file():  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model does on this machine."""

    prefill_tokens_per_s: float
    step_seconds: float
    """One more token for every row of a batch."""
    n_rows: int


@torch.inference_mode()
def measure_speed(model: LoadedModel, prompt: TokenIds, n_rows: int, n_steps: int = 4) -> Speed:
    """Prefill one prompt (T,), then decode `n_rows` rows of it. The first of each warms up and does not count."""
    network: Any = model.network
    ids = torch.from_numpy(prompt)[None].to(model.device)  # (1, time)
    prefills, steps = [], []
    for _ in range(2):
        seconds, output = _timed(network, input_ids=ids)
        prefills.append(seconds)
    cache, token = output.past_key_values, output.logits[:, -1].argmax(dim=-1).repeat(n_rows)  # (n_rows,)
    cache.batch_repeat_interleave(n_rows)
    for _ in range(1 + n_steps):
        steps.append(_timed(network, input_ids=token[:, None], past_key_values=cache)[0])
    return Speed(len(prompt) / prefills[1], sum(steps[1:]) / n_steps, n_rows)


def _timed(network: Any, **inputs: Any) -> tuple[float, Any]:
    """(seconds until the logits are known, output) of a forward pass."""
    started = time.monotonic()
    output = network(**inputs, use_cache=True, logits_to_keep=1)
    output.logits[0, -1, 0].item()  # waits for a GPU
    return time.monotonic() - started, output


@dataclass(frozen=True, slots=True)
class TaskSize:
    """A task as it is on average, in tokens."""

    prompt: float
    answer: float
    n_queries: float


def measure_tasks(model: LoadedModel, tasks: Tasks, generate: GenerateConfig) -> tuple[TaskSize, TokenIds]:
    """(the mean task, the prompt of median length), prompts cut off at the longest that is asked."""
    fmt, encoder, tokenizer = model.prompt_format, model.encoder, model.tokenizer
    queries = [query for task in tasks for query in task.queries]
    prompts = [query_prompt(query, encoder, fmt) for query in queries]
    longest = min(generate.max_prompt_tokens, token_limit(tokenizer))
    lengths = [min(count(prompt, tokenizer), longest) for prompt in prompts]
    answers = [
        answer_tokens(query.input if query.answer is None else query.answer, encoder, fmt, tokenizer)
        for query in queries
    ]
    median = prompts[int(np.argsort(lengths)[len(lengths) // 2])]
    size = TaskSize(float(np.mean(lengths)), float(np.mean(answers)), len(queries) / len(tasks))
    return size, tokenize(median, tokenizer).ids[:longest]


def project_seconds(size: TaskSize, speed: Speed, generate: GenerateConfig, tune: TuneConfig) -> tuple[float, float]:
    """Seconds of a task: (fine-tuning, answering), each cut off where its config does."""
    example = min(size.prompt, tune.max_tokens)
    n_trained = 0 if tune.weights == "none" else tune.steps * tune.examples_a_step(round(example)) * example
    tuning = PASSES_PER_STEP * n_trained / speed.prefill_tokens_per_s
    n_answers = generate.n_views * size.n_queries
    prefill = n_answers * size.prompt / speed.prefill_tokens_per_s
    decode = n_answers / speed.n_rows * size.answer * speed.step_seconds
    return min(tuning, tune.max_seconds), min(prefill + decode, generate.max_seconds)
