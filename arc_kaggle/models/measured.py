"""Projections for a loaded model: memory by formulas, seconds a task from a few measured forward passes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.models.block_attention import LONGEST
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.memory_formulas import Footprint, Shape, project
from arc_kaggle.system.hardware import available_memory
from arc_kaggle.tasks.dataset import Tasks
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import TokenIds, tokenize

PASSES_PER_STEP = 3
"""Forward passes that a training step takes as long as: the backward pass counts two."""


def project_memory(model: LoadedModel, generate: GenerateConfig, tune: TuneConfig) -> Footprint:
    """The footprint of a loaded model under the longest prompts and examples that the configs allow."""
    network: Any = model.network
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    kept_up_to = LONGEST if network.device.type == "cpu" else 0  # attention by blocks keeps its weights there
    return project(shape_of(network), weights, network.dtype.itemsize, generate, tune, kept_up_to)


def shape_of(network: Any) -> Shape:
    """As `read_shape` reads it of a folder, but for 4-bit weights, whose tensors have another shape."""
    sizes = {path: size for path, module in network.named_modules() if (size := _size(module))}
    head, embeddings = network.get_output_embeddings(), network.get_input_embeddings()
    return Shape.of(network.config.get_text_config().to_dict(), sizes, head.weight is embeddings.weight, 0)


def _size(module: Any) -> tuple[int, int] | None:
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    return (module.out_features, module.in_features) if isinstance(module, nn.Linear) else None


def available_bytes(device: torch.device) -> int:
    """Bytes that this process may still take on a GPU, or on the host for a CPU."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured speed of a model on this machine."""

    prefill_tokens_per_s: float
    step_seconds: float
    """One more token for every row of a batch."""
    n_rows: int


@torch.inference_mode()
def measure_speed(model: LoadedModel, prompt: TokenIds, n_rows: int, n_steps: int = 4) -> Speed:
    """Prefill one prompt (T,), then decode `n_rows` rows of it. The first of each warms up and does not count."""
    from transformers import DynamicCache

    network: Any = model.network
    ids = torch.from_numpy(prompt)[None].to(model.device)  # (1, time)
    prefills, steps = [], []

    is_told = hasattr(network.config, "positions")

    def places(*shape: int) -> dict[str, Tensor]:
        """Wherever tokens stand, it takes as long."""
        return {"position_ids": ids.new_zeros(*shape, 3)} if is_told else {}

    for _ in range(2):
        own_cache = {"past_key_values": DynamicCache()} if is_told else {}  # the others make one that fits them
        seconds, output = _timed(network, input_ids=ids, **own_cache, **places(*ids.shape))
        prefills.append(seconds)
    cache, token = output.past_key_values, output.logits[:, -1].argmax(dim=-1).repeat(n_rows)  # (n_rows,)
    cache.batch_repeat_interleave(n_rows)
    for _ in range(1 + n_steps):
        steps.append(_timed(network, input_ids=token[:, None], past_key_values=cache, **places(n_rows, 1))[0])
    return Speed(len(prompt) / prefills[1], sum(steps[1:]) / n_steps, n_rows)


def _timed(network: Any, **inputs: Any) -> tuple[float, Any]:
    """(seconds until the logits are known, output) of a forward pass."""
    started = time.monotonic()
    output = network(**inputs, use_cache=True, logits_to_keep=1)
    output.logits[0, -1, 0].item()  # waits for a GPU
    return time.monotonic() - started, output


@dataclass(frozen=True, slots=True)
class MeanTask:
    """A task as it is on average, in tokens."""

    prompt: float
    answer: float
    n_queries: float


def measure_tasks(model: LoadedModel, tasks: Tasks, generate: GenerateConfig) -> tuple[MeanTask, TokenIds]:
    """(the mean task, the prompt of median length), prompts cut off at the longest that is asked."""
    notation = model.notation
    queries = [query for task in tasks for query in task.queries]
    prompts = [query_prompt(query, notation) for query in queries]
    longest = min(generate.max_prompt_tokens, notation.token_limit)
    lengths = [min(notation.n_tokens(prompt), longest) for prompt in prompts]
    answers = [len(notation.completion_ids(query.input if query.answer is None else query.answer)) for query in queries]
    median = prompts[int(np.argsort(lengths)[len(lengths) // 2])]
    size = MeanTask(float(np.mean(lengths)), float(np.mean(answers)), len(queries) / len(tasks))
    return size, tokenize(median, model.tokenizer).ids[:longest]


def project_seconds(size: MeanTask, speed: Speed, generate: GenerateConfig, tune: TuneConfig) -> tuple[float, float]:
    """Seconds of a task: (fine-tuning, answering), each cut off where its config does."""
    example = min(size.prompt, tune.max_tokens)
    n_trained = 0 if tune.weights == "none" else tune.steps * tune.examples_a_step(round(example)) * example
    tuning = PASSES_PER_STEP * n_trained / speed.prefill_tokens_per_s
    n_answers = generate.n_views * size.n_queries
    prefill = n_answers * size.prompt / speed.prefill_tokens_per_s
    decode = n_answers / speed.n_rows * size.answer * speed.step_seconds
    return min(tuning, tune.max_seconds), min(prefill + decode, generate.max_seconds)
