"""Checks of a model before a run: do its prompt, its answers, its memory and its time suit it and this machine?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.preflight import PreflightConfig
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import EngineError, ModelError
from arc_kaggle.evaluation.findings import Finding
from arc_kaggle.models.loading import LoadedModel, pick_precision, types_of
from arc_kaggle.models.measured import measure_speed, measure_tasks, project_seconds
from arc_kaggle.models.memory_formulas import GIB, Footprint, project, read_shape
from arc_kaggle.models.prompt_comparison import nll_per_cell
from arc_kaggle.run.launch.start import count_workers
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.tasks.task import Query
from arc_kaggle.text.encoders import cell_symbols
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import TokenIds, tokenize

NEVER = Deadline.never()


def left_out(name: str) -> Finding:
    """A check for which the time bound left no time."""
    return Finding(name, "not run", "the time bound of preflight has passed", advice="raise --time-bound-minutes")


def check_engine(config: SolveConfig) -> Finding:
    """Which engine would answer, and whether it and fine-tuning fit the GPUs."""
    expected = "an engine that fits beside fine-tuning"
    try:
        choice = settle(config)
    except (EngineError, ModelError) as error:
        return Finding.of("engine", False, str(error), expected, "take --engine auto for one that fits")
    return Finding.of("engine", True, f"{choice.config.engine}, {choice.reason}", expected, "")


def check_weights(config: PreflightConfig, device: torch.device, available: int) -> Finding:
    """Whether the weights fit, by the sizes in the model's files, before anything is loaded."""
    itemsize = types_of(device, pick_precision(device, config.precision), config.tune.weights == "all")[0].itemsize
    shape = read_shape(config.model)
    weights = shape.weight_bytes(itemsize, config.four_bit)
    finding = check_memory(project(shape, weights, itemsize, config.generate, config.tune), available, config)
    return replace(finding, level="ok" if weights <= available else "FAILED")


def check_cells_of(model: LoadedModel) -> Finding:
    """`load_model` refuses cells that merge; what is left is to say how many tokens a cell costs."""
    lengths = {len(model.notation.ids(cell)) for cell in cell_symbols(model.encoder)}
    stop = model.tokenizer.decode([model.end_id])
    found = f"{'/'.join(map(str, sorted(lengths)))} token a cell in {model.encoder.spec}, stop token {stop!r}"
    advice = "choose another encoder; `arc-kaggle symbols` names those that the tokenizer keeps apart"
    return Finding.of("cells", len(lengths) == 1, found, "the same number for every colour", advice)


def check_stop(model: LoadedModel, tasks: Tasks, config: PreflightConfig, until: Deadline = NEVER) -> Finding:
    """Greedy answers, asked for and read as `solve` does, must end. What is not answered in time does not count."""
    once = replace(config.generate, n_views=1)
    rng = np.random.default_rng(config.seed)
    requests = [request for task in tasks for request in make_requests(task, model.notation, once, rng)]
    interpreter = Interpreter(HFEngine(model, once.tokens_per_batch), model.notation)
    predictions = predict(requests, interpreter, once, until)
    reasons = Counter(prediction.reason or "read as grids" for prediction in predictions)
    n_asked = len(requests) - reasons["deadline"]
    if not n_asked:
        return left_out("stop")
    n_ended = n_asked - reasons["no_end"] - reasons["prompt_too_long"]
    n_least = math.ceil(config.min_ended * n_asked)
    found = f"{n_ended} of {n_asked} answers end by themselves ({_counts(reasons)})"
    advice = "the model does not know the end of an answer in this prompt: choose the preset that it was trained with"
    return Finding.of("stop", n_ended >= n_least, found, f"{n_least} or more", advice)


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())


def check_nll(
    model: LoadedModel, tasks: Tasks, others: Mapping[str, Notation], until: Deadline = NEVER
) -> Iterator[Finding]:
    """The known answers must be likelier under the model's prompt than under every other, as far as time goes."""
    queries = [next(task.queries) for task in tasks]
    own = list(nll_in_time(model, queries, model.notation, until))
    for name, notation in others.items():
        other = list(nll_in_time(model, queries[: len(own)], notation, until))
        own_encoder = name not in PRESETS or PRESETS[name].encoder == notation.encoder.spec
        encoder = "" if own_encoder else f" --encoder {notation.encoder.spec}"
        is_whole = own and len(other) == len(own)
        yield compare_nll(name, own, other, encoder) if is_whole else left_out(f"nll against {name}")


def nll_in_time(model: LoadedModel, queries: Sequence[Query], notation: Notation, until: Deadline) -> Iterator[float]:
    """The NLL per cell of the queries' answers in their order, until time is up."""
    for query in queries:
        if until.passed:
            return
        yield nll_per_cell(model, query, notation)


def compare_nll(name: str, own: Sequence[float], other: Sequence[float], encoder: str = "") -> Finding:
    """Lower in the mean and in most tasks; NaN is not lower than anything."""
    n_lower = sum(a < b for a, b in zip(own, other, strict=True))
    ok = bool(np.mean(own) < np.mean(other)) and 2 * n_lower > len(own)
    found = f"{np.mean(own):.3f} nats a cell against {np.mean(other):.3f}, lower in {n_lower} of {len(own)} tasks"
    known = name in PRESETS or name == "auto"
    fix = (
        f"--prompt {name}{encoder} suits the model better"
        if known
        else "choose the preset that the model was trained with"
    )
    return Finding.of(
        f"nll against {name}", ok, found, "a lower mean, and lower in most tasks", f"this prompt is wrong: {fix}"
    )


def check_fp16(model: LoadedModel, tasks: Tasks) -> Finding:
    """A network made for bf16 may overflow in fp16, which is all that a T4 has."""
    prompts = [query_prompt(next(task.queries), model.notation) for task in tasks]
    largest = largest_logit(model, tokenize(prompts[-1], model.tokenizer).ids)
    found = f"largest logit {largest:.4g} on one prompt"
    advice = "on a T4 answers would be noise: take a GPU that has bf16, or --precision fp32"
    return Finding.of("fp16", bool(np.isfinite(largest)), found, "a finite number", advice)


@torch.inference_mode()
def largest_logit(model: LoadedModel, ids: TokenIds) -> float:
    """Most of |logit| over a prompt (T,) when weights and products are fp16; NaN where there is one."""
    network = model.network if model.network.dtype == torch.float16 else deepcopy(model.network).half()
    logits = network(input_ids=torch.from_numpy(ids)[None].to(model.device), use_cache=False).logits
    return float(logits.abs().max())


def check_memory(footprint: Footprint, available: int, config: PreflightConfig) -> Finding:
    """At the longest prompts that the config allows; `available` was read before the model was loaded."""
    needed = config.memory_headroom * footprint.peak
    found = f"{needed / GIB:.2f} GiB with headroom ({footprint})"
    advice = (
        "lower generate.tokens_per_batch for keys and values, tune.max_tokens or the batch for fine-tuning, or add "
        "--four-bit for the weights"
    )
    return Finding.of("memory", needed <= available, found, f"at most the {available / GIB:.2f} available", advice)


def check_time(model: LoadedModel, tune: TuneConfig, config: PreflightConfig) -> Finding:
    """From a prompt and a few decode steps that are measured here, and the lengths of a whole set of tasks.

    The workers of the run share the tasks; that they slow each other down is not in it.
    """
    size, median_prompt = measure_tasks(model, load_tasks(config.sized_by), config.generate)
    n_rows = max(1, min(config.generate.n_views, config.generate.tokens_per_batch // round(size.prompt + size.answer)))
    speed = measure_speed(model, median_prompt, n_rows)
    tuning, answering = project_seconds(size, speed, config.generate, tune)
    n_workers = count_workers(config.run)
    hours, limit = config.n_run_tasks * (tuning + answering) / n_workers / 3600, config.time_limit_minutes / 60
    found = (
        f"{hours:.2f} h for {config.n_run_tasks} tasks of {config.generate.n_views} views on {n_workers} workers: "
        f"{tuning:.1f} s fine-tuning and {answering:.1f} s answering each, at {speed.prefill_tokens_per_s:.0f} prompt "
        f"tokens/s and {1000 * speed.step_seconds:.1f} ms a step of {n_rows} rows"
    )
    advice = "lower generate.n_views or tune.steps; a run stops in time all the same, with tasks left unanswered"
    return Finding.of("time", hours <= limit, found, f"at most {limit:.2f} h", advice)
