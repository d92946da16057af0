"""`arc-kaggle preflight`: whether a model, the prompt it is asked with and this machine go together, before a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from arc_kaggle.answering.predict import Interpreter, predict
from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.model import ModelOptions, options_of
from arc_kaggle.config.options import Count, Minutes, Positive, Range, check_ranges
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.tune import TuneConfig
from arc_kaggle.engines.choice import settle
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.engines.placement import HEADROOM
from arc_kaggle.errors import EngineError, ModelError, PromptError
from arc_kaggle.models.loading import DTYPES, LoadedModel, load_model, pick_device, pick_precision
from arc_kaggle.models.measured import available_bytes, measure_speed, measure_tasks, project_memory, project_seconds
from arc_kaggle.models.memory_formulas import GIB, Footprint, project, read_shape
from arc_kaggle.models.prompt_comparison import nll_per_cell, other_ways
from arc_kaggle.models.vocabulary_cut import cut_vocabulary
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import Tasks, load_tasks
from arc_kaggle.text.encoders import cell_symbols
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import TokenIds, tokenize

CHECKS = ("engine", "cells", "stop", "nll", "fp16", "memory", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightConfig(ModelOptions):
    """Check that a model, its prompt format and this machine go together: one line a check, exit code 2 where one
    fails."""

    prompt: Annotated[str, tyro.conf.arg(aliases=("--preset",))] = "auto"
    """The prompt format to check: plain, arc24, arc24-no-system, architects, nvarc, chat, or auto, as for `solve`."""
    tasks: str = "arc1:training"
    """Tasks with known answers that the model is asked, as for `solve`; those with the shortest prompts are taken."""
    n_tasks: Count = 10
    """How many of these tasks are asked."""
    min_ended: Annotated[float, Range(0, 1, is_open=True)] = 0.5
    """Share of the answers, over 0 and up to 1, that must end by themselves within the limit of tokens."""
    sized_by: str = "arc2:evaluation"
    """Tasks whose lengths in tokens stand for those of the run that time is projected for."""
    n_run_tasks: Count = 240
    """Number of tasks of that run."""
    time_limit_minutes: Minutes = 700.0
    """Minutes that the run may take."""
    memory_headroom: Positive = HEADROOM
    """Projected memory times this must be available: buffers and logits are not in the projection."""

    def __post_init__(self) -> None:
        ModelOptions.__post_init__(self)
        check_ranges(self)

    @property
    def run(self) -> SolveConfig:
        """The run that is to be made. Raises ConfigError, EngineError where `solve` would refuse it."""
        return SolveConfig("", Path(), **options_of(self, ModelOptions))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold: what was found, what was expected, and what to do where it does not."""

    name: str
    ok: bool
    found: str
    expected: str
    advice: str

    @property
    def line(self) -> str:
        line = f"{'ok' if self.ok else 'FAILED':<8}{self.name}: {self.found}; expected {self.expected}"
        return line if self.ok else f"{line}; {self.advice}"


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """All checks in their order, and those that could not be made."""

    title: str
    checks: tuple[Check, ...]
    not_run: tuple[str, ...] = ()
    why_not: str = "the tokenizer does not take the prompt"

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if not check.ok)

    @property
    def text(self) -> str:
        left_out = f"{'not run':<8}{', '.join(self.not_run)}: {self.why_not}"
        return "\n".join([self.title, *(check.line for check in self.checks), *([left_out] if self.not_run else [])])

    def require(self) -> None:
        """Raise ModelError where a check failed."""
        if self.failed:
            raise ModelError(f"preflight: {len(self.failed)} of {len(self.checks)} failed: {', '.join(self.failed)}")


def run(config: PreflightConfig) -> int:
    """Print a line a check. Raises ModelError where one fails."""
    report = preflight(config)
    print(report.text)
    report.require()
    return 0


def preflight(config: PreflightConfig) -> PreflightReport:
    """Make all checks. Raises ModelError, ConfigError, EngineError, TaskError for what cannot be loaded."""
    tasks = load_tasks(config.tasks, f"shortest:{config.n_tasks}")
    device = pick_device(config.device)
    available, engine = available_bytes(device), check_engine(config.run)
    title = f"{config.model}, prompt {config.prompt}, encoder {config.encoder or 'as it says'}"
    try:
        if not (weights := check_weights(config, device, available)).ok:
            return PreflightReport(title, (engine, weights), CHECKS[1:-2] + CHECKS[-1:], "the weights do not fit")
        model = load_model(
            config.model, config.precision, config.device, config.prompt, config.encoder, four_bit=config.four_bit
        )
    except PromptError as error:
        advice = "give another --prompt or --encoder"
        refused = Check("cells", False, str(error), "a tokenizer that takes the prompt", advice)
        return PreflightReport(title, (engine, refused), CHECKS[2:])
    others, refusing = other_ways(model, config.model)
    checks = [engine, check_cells_of(model), *check_nll(model, tasks, others)]
    if config.cut_vocabulary:  # other prompts are made of other tokens, and were asked before
        model = cut_vocabulary(model, config.generate.fallback_encoder)
    checks += check_run(model, tasks, available, config)
    return PreflightReport(title, tuple(checks), refusing)


def check_run(model: LoadedModel, tasks: Tasks, available: int, config: PreflightConfig) -> Iterator[Check]:
    """What a run would do with the model as it is. A 4-bit one is not asked for fp16 where it computes in bf16."""
    yield check_stop(model, tasks, config)
    if not config.four_bit or model.network.dtype == torch.float16:
        yield check_fp16(model, tasks)
    yield check_memory(project_memory(model, config.generate, config.tune), available, config)
    yield check_time(model, config.tune, config)


def check_engine(config: SolveConfig) -> Check:
    """Which engine would answer, and whether it and fine-tuning fit the GPUs."""
    expected = "an engine that fits beside fine-tuning"
    try:
        choice = settle(config)
    except (EngineError, ModelError) as error:
        return Check("engine", False, str(error), expected, "take --engine auto for one that fits")
    return Check("engine", True, f"{choice.config.engine}, {choice.reason}", expected, "")


def check_weights(config: PreflightConfig, device: torch.device, available: int) -> Check:
    """By the sizes in its files, before anything is loaded."""
    itemsize = DTYPES[pick_precision(device, config.precision)].itemsize if device.type != "cpu" else 4
    shape = read_shape(config.model)
    weights = shape.weight_bytes(itemsize, config.four_bit)
    check = check_memory(project(shape, weights, itemsize, config.generate, config.tune), available, config)
    return replace(check, ok=weights <= available)


def check_cells_of(model: LoadedModel) -> Check:
    """`load_model` refuses cells that merge; what is left is to say how many tokens a cell costs."""
    lengths = {len(model.notation.ids(cell)) for cell in cell_symbols(model.encoder)}
    stop = model.tokenizer.decode([model.end_id])
    found = f"{'/'.join(map(str, sorted(lengths)))} token a cell in {model.encoder.spec}, stop token {stop!r}"
    advice = "choose another encoder; `arc-kaggle symbols` names those that the tokenizer keeps apart"
    return Check("cells", len(lengths) == 1, found, "the same number for every colour", advice)


def check_stop(model: LoadedModel, tasks: Tasks, config: PreflightConfig) -> Check:
    """Greedy answers, asked for and read as `solve` does, must end."""
    once = replace(config.generate, n_views=1)
    rng = np.random.default_rng(config.seed)
    requests = [request for task in tasks for request in make_requests(task, model.notation, once, rng)]
    interpreter = Interpreter(HFEngine(model, once.tokens_per_batch), model.notation)
    predictions = predict(requests, interpreter, once, Deadline.never())
    reasons = Counter(prediction.reason or "read as grids" for prediction in predictions)
    n_ended = len(requests) - reasons["no_end"] - reasons["prompt_too_long"]
    n_least = math.ceil(config.min_ended * len(requests))
    found = f"{n_ended} of {len(requests)} answers end by themselves ({_counts(reasons)})"
    advice = "the model does not know this prompt's end: choose the preset that it was trained with"
    return Check("stop", n_ended >= n_least, found, f"{n_least} or more", advice)


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())


def check_nll(model: LoadedModel, tasks: Tasks, others: dict[str, Notation]) -> Iterator[Check]:
    """The known answers must be likelier under the model's prompt than under every other."""
    queries = [next(task.queries) for task in tasks]
    own = [nll_per_cell(model, query, model.notation) for query in queries]
    for name, asked in others.items():
        own_encoder = name not in PRESETS or PRESETS[name].encoder == asked.encoder.spec
        encoder = "" if own_encoder else f" --encoder {asked.encoder.spec}"
        yield compare_nll(name, own, [nll_per_cell(model, query, asked) for query in queries], encoder)


def compare_nll(name: str, own: Sequence[float], other: Sequence[float], encoder: str = "") -> Check:
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
    return Check(
        f"nll against {name}", ok, found, "a lower mean, and lower in most tasks", f"this prompt is wrong: {fix}"
    )


def check_fp16(model: LoadedModel, tasks: Tasks) -> Check:
    """A network made for bf16 may overflow in fp16, which is all that a T4 has."""
    prompts = [query_prompt(next(task.queries), model.notation) for task in tasks]
    largest = largest_logit(model, tokenize(prompts[-1], model.tokenizer).ids)
    found = f"largest logit {largest:.4g} on one prompt"
    advice = "on a T4 answers would be noise: take a GPU that has bf16, or --precision fp32"
    return Check("fp16", bool(np.isfinite(largest)), found, "a finite number", advice)


@torch.inference_mode()
def largest_logit(model: LoadedModel, ids: TokenIds) -> float:
    """Most of |logit| over a prompt (T,) when weights and products are fp16; NaN where there is one."""
    network = model.network if model.network.dtype == torch.float16 else deepcopy(model.network).half()
    logits = network(input_ids=torch.from_numpy(ids)[None].to(model.device), use_cache=False).logits
    return float(logits.abs().max())


def check_memory(footprint: Footprint, available: int, config: PreflightConfig) -> Check:
    """At the longest prompts that the config allows; `available` was read before the model was loaded."""
    needed = config.memory_headroom * footprint.peak
    found = f"{needed / GIB:.2f} GiB with headroom ({footprint})"
    advice = (
        "lower generate.tokens_per_batch for keys and values, tune.max_tokens or the batch for fine-tuning, or add "
        "--four-bit for the weights"
    )
    return Check("memory", needed <= available, found, f"at most the {available / GIB:.2f} available", advice)


def check_time(model: LoadedModel, tune: TuneConfig, config: PreflightConfig) -> Check:
    """From a prompt and a few decode steps that are measured here, and the lengths of a whole set of tasks."""
    size, median_prompt = measure_tasks(model, load_tasks(config.sized_by), config.generate)
    n_rows = max(1, min(config.generate.n_views, config.generate.tokens_per_batch // round(size.prompt + size.answer)))
    speed = measure_speed(model, median_prompt, n_rows)
    tuning, answering = project_seconds(size, speed, config.generate, tune)
    hours, limit = config.n_run_tasks * (tuning + answering) / 3600, config.time_limit_minutes / 60
    found = (
        f"{hours:.2f} h for {config.n_run_tasks} tasks of {config.generate.n_views} views: {tuning:.1f} s fine-tuning "
        f"and {answering:.1f} s answering each, at {speed.prefill_tokens_per_s:.0f} prompt tokens/s "
        f"and {1000 * speed.step_seconds:.1f} ms a step of {n_rows} rows"
    )
    advice = "lower generate.n_views or tune.steps; a run stops in time all the same, with tasks left unanswered"
    return Check("time", hours <= limit, found, f"at most {limit:.2f} h", advice)
