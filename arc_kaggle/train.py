"""`arc-kaggle train`: makes a model from rules, from scratch or from a model folder, without evaluation tasks."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from arc_kaggle.augmentation import sample_augmentation
from arc_kaggle.card import read_card
from arc_kaggle.dataset import load_pair_file, load_tasks, n_symbols
from arc_kaggle.errors import ConfigError, LeakError
from arc_kaggle.fit import MakePrompt, fit_training
from arc_kaggle.leak import LeakFinder
from arc_kaggle.model import DTYPES, LoadedModel, load_model, new_model, pick_device, pick_precision, save_model
from arc_kaggle.optim import Optimizer, collate, completion_loss, padded_length
from arc_kaggle.presets import Preset
from arc_kaggle.prompt import Loss, PromptFormat, inputs_prompt, training_prompt
from arc_kaggle.recipe import OptimConfig, Precision
from arc_kaggle.task import Pair, Task
from arc_kaggle.tokens import Example, check_example


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Make a model from training rules. Refuses rules that an evaluation set contains."""

    out: Path
    """Folder for the model, its card and the log."""
    data: tuple[str, ...] = ("arc1:training",)
    """Task sets, task files and pair files (.jsonl, .jsonl.xz), each with an optional weight: `SOURCE=2.5`."""
    start: Path | None = None
    """Model folder to go on from; a new model where it is not given."""
    hidden_size: int = 192
    """Width of a new model, a multiple of 32."""
    n_layers: int = 6
    """Depth of a new model."""
    steps: int = 8000
    """Optimizer steps."""
    tokens_per_batch: int = 4096
    """Tokens in a step, padding included."""
    max_tokens: int = 1024
    """Longest example, in tokens."""
    first_max_tokens: int = 256
    """Longest example at the beginning; it grows to `max_tokens` over the first third of the steps."""
    max_pairs: int = 6
    """Most pairs in an example."""
    prompt: str = "auto"
    """How tasks are put to the model that training goes on from, as for `solve`; a new model is plain."""
    encoder: str = ""
    """How grids are written for it, as for `solve`."""
    inputs_share: float = 0.0
    """Share of examples in which an input is to be generated from other inputs (arc24), 0..1."""
    loss: Loss = "outputs_but_first"
    """What an example trains: all outputs but the first, all outputs, the last output alone, or everything."""
    keep_background: float = 0.8
    """Chance that colour 0 stays itself, 0..1."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(learning_rate=2e-3, warmup_fraction=0.03, weight_decay=0.1)
    )
    precision: Precision = "auto"
    """Compute type; weights are trained in fp32."""
    seed: int = 0
    """Seed of weights and data; equal seeds give equal losses on one machine."""
    hold_out: float = 0.05
    """Share of rules kept for validation, chosen by a digest of the rule id, 0..1."""
    against: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    """Evaluation sets that no rule may come from."""
    drop_leaks: bool = False
    """Leave out rules and pairs that an evaluation set contains, and train on the rest."""
    allow_leak: bool = False
    """Train on everything; stamped into the model card."""
    recipe: str = "box"
    """Recipe that `solve` tunes this model by, written into its card."""
    save_every: int = 1000
    """Steps between two savings of the model."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A hidden rule: pairs that all follow it. `weight` is how often it is drawn, relative to others."""

    id: str
    pairs: tuple[Pair, ...]
    weight: float


def train(config: TrainConfig) -> dict[str, Any]:
    """Train, write the model folder, return its card. Raises LeakError, ConfigError, TaskError."""
    rules = load_rules(config.data)
    rules, leaks = keep_clean(rules, config)
    training, validation = split_rules(rules, config.hold_out)
    device = pick_device("auto")
    model = start_model(config, device)
    rng = np.random.default_rng([config.seed, 1])
    checks = list(_validation_batches(validation, model, config))
    config.out.mkdir(parents=True, exist_ok=True)
    optimizer = Optimizer(model, model.network.parameters(), config.optim, config.steps)
    started, n_tokens = time.monotonic(), 0
    card: dict[str, Any] = {}
    with (config.out / "log.jsonl").open("w") as log, tqdm(total=config.steps, unit="step") as bar:
        batches = make_batches(training, model, config, rng, bar)
        for step in range(1, config.steps + 1):
            ids, labels = next(batches)
            row: dict[str, Any] = {"step": step, "loss": optimizer.step(ids, labels)}
            n_tokens += ids.numel()
            if step % config.save_every == 0 or step == config.steps:
                row["validation_loss"] = mean_loss(model, checks)
                card = _card(config, leaks, validation, step, n_tokens, time.monotonic() - started, row)
                save_model(model, config.out, config.recipe, card)
            row["tokens"], row["seconds"] = n_tokens, round(time.monotonic() - started, 1)
            print(json.dumps(row), file=log, flush=True)
            bar.update()
            bar.set_postfix(
                loss=f"{row['loss']:.3f}", tokens_per_s=round(n_tokens / row["seconds"]) if row["seconds"] else 0
            )
    return card


def start_model(config: TrainConfig, device: torch.device) -> LoadedModel:
    """A new model, or the one to go on from, with fp32 weights and products in the configured precision."""
    chosen = pick_precision(device, config.precision)
    autocast = None if chosen == "fp32" else DTYPES[chosen]
    if config.start is None:
        model = new_model(config.hidden_size, config.n_layers, config.seed, autocast)
    else:
        loaded = load_model(config.start, "fp32", prompt=config.prompt, encoder=config.encoder)
        model = replace(loaded, autocast=autocast)
    model.network.float().to(device).train()
    return model


def load_rules(sources: Iterable[str]) -> list[Rule]:
    """All rules of `SOURCE` or `SOURCE=WEIGHT` entries; the weight of a source is shared by its rules."""
    rules: list[Rule] = []
    for entry in sources:
        source, _, weight = entry.partition("=")
        found = [(rule_id, pairs) for rule_id, pairs in _rules_of(source) if len(pairs) >= 2]
        if not found:
            raise ConfigError(f"data {entry!r}: found no rule with two pairs, expected one or more to train on")
        share = _weight(entry, weight) / len(found)
        rules += [Rule(rule_id, pairs, share) for rule_id, pairs in found]
    return rules


def _weight(entry: str, text: str) -> float:
    try:
        weight = float(text or 1)
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf"):
        raise ConfigError(f"data {entry!r}: found weight {text!r}, expected a number over 0, as in arc1:training=2.5")
    return weight


def _rules_of(source: str) -> list[tuple[str, tuple[Pair, ...]]]:
    if source.endswith((".jsonl", ".jsonl.xz")):
        return list(tqdm(load_pair_file(Path(source)), desc=source, unit="rule"))
    return [(task.id, (*task.train, *(p for p in task.test if p.output is not None))) for task in load_tasks(source)]


def keep_clean(rules: list[Rule], config: TrainConfig) -> tuple[list[Rule], list[str]]:
    """The rules that may be trained on, and a line for each leak. Raises LeakError unless told what to do.

    A rule leaks by its id or by any of its pairs. `drop_leaks` drops the rule where the id leaks, else its pairs.
    """
    finder = LeakFinder(task for name in config.against for task in load_tasks(name))
    clean, leaks = [], []
    for rule in tqdm(rules, desc="leak check", unit="rule"):
        found = {pair: "its id" for pair in rule.pairs} if rule.id in finder.ids else _leaking(rule, finder)
        leaks += (
            [f"rule {rule.id}: {len(found)} of {len(rule.pairs)} pairs, by {sorted(set(found.values()))}"]
            if found
            else []
        )
        kept = tuple(pair for pair in rule.pairs if pair not in found)
        clean += [replace(rule, pairs=kept)] if len(kept) >= 2 else []
    if config.allow_leak or not leaks:
        return rules, leaks
    if config.drop_leaks:
        return clean, leaks
    raise LeakError(
        f"{len(leaks)} rules appear in {', '.join(config.against)}; the first: {leaks[0]}. Use other data, or "
        "--drop-leaks to leave them out, or --allow-leak to train on them and have the model card say so"
    )


def _leaking(rule: Rule, finder: LeakFinder) -> dict[Pair, str]:
    found = {pair: finder.find(pair) for pair in rule.pairs}
    return {pair: f"a pair of {task_id}" for pair, task_id in found.items() if task_id}


def split_rules(rules: Sequence[Rule], hold_out: float) -> tuple[list[Rule], list[Rule]]:
    """(training, validation): a rule is held out where the digest of its id, as a number 0..1, is below `hold_out`."""
    held = [rule for rule in rules if _unit_digest(rule.id) < hold_out]
    return [rule for rule in rules if _unit_digest(rule.id) >= hold_out], held


def _unit_digest(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


class ExampleSource:
    """Draws training examples from rules: some pairs of a rule that fit, seen through a random augmentation."""

    def __init__(self, rules: Sequence[Rule], model: LoadedModel, config: TrainConfig) -> None:
        if not rules:
            raise ConfigError("training data: found no rule to train on, expected one or more")
        self.rules, self.model, self.config = rules, model, config
        weights = np.array([rule.weight for rule in rules])
        self.cumulative = np.cumsum(weights / weights.sum())
        self.lengths = [np.array([_pair_tokens(pair) for pair in rule.pairs]) for rule in rules]

    def draw(self, rng: np.random.Generator, max_tokens: int) -> Example:
        """One example of at most `max_tokens` tokens. Raises ConfigError where no two pairs of any rule fit."""
        for _ in range(1000):
            index = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.rules) - 1)
            chosen = self._choose_pairs(index, rng, max_tokens)
            if len(chosen) >= 2 and (example := self._example(self.rules[index], chosen, rng, max_tokens)):
                return example
        raise ConfigError(f"training data: found no two pairs of a rule within {max_tokens} tokens in 1000 draws")

    def _choose_pairs(self, index: int, rng: np.random.Generator, max_tokens: int) -> list[int]:
        lengths, left = self.lengths[index], max_tokens - 1
        wanted = int(rng.integers(min(3, self.config.max_pairs), self.config.max_pairs + 1))
        chosen: list[int] = []
        for i in rng.permutation(np.flatnonzero(lengths <= left)):
            if lengths[i] <= left and len(chosen) < wanted:
                chosen.append(int(i))
                left -= lengths[i]
        return chosen

    def _example(self, rule: Rule, chosen: Sequence[int], rng: np.random.Generator, max_tokens: int) -> Example | None:
        """The chosen pairs, or as many of them as fit; None where no two do."""
        task = Task(rule.id, tuple(rule.pairs[i] for i in chosen), ())
        view = sample_augmentation(rng, len(chosen), self.config.keep_background).apply_task(task)
        model, fmt = self.model, self.model.prompt_format
        make: MakePrompt = partial(training_prompt, loss=self.config.loss)
        if self.config.inputs_share and rng.random() < self.config.inputs_share:
            fmt, make = inputs_format(model.preset), inputs_prompt
        fitted = fit_training(view, model.encoder, fmt, model.tokenizer, max_tokens, "last", make)
        return fitted.example if fitted.fits else None


def inputs_format(preset: Preset) -> PromptFormat:
    """The format of prompts that generate an input from inputs. Raises ConfigError where the preset has none."""
    if preset.inputs is None:
        raise ConfigError("option inputs_share: the model's prompt has no form for input from inputs; name a --prompt")
    return preset.inputs


def _pair_tokens(pair: Pair) -> int:
    """Tokens of a pair in the minimal encoding, as it is or transposed, whichever is more."""
    assert pair.output is not None, "rules hold known outputs only"
    as_is = n_symbols(pair.input) + n_symbols(pair.output)
    return max(as_is, n_symbols(pair.input.T) + n_symbols(pair.output.T)) + 1


def make_batches(
    rules: Sequence[Rule], model: LoadedModel, config: TrainConfig, rng: np.random.Generator, bar: Any
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (ids, labels) of one bucketed length each, about `tokens_per_batch` tokens in all."""
    source = ExampleSource(rules, model, config)
    first = source.draw(np.random.default_rng(config.seed), config.max_tokens)
    check_example(first, model.tokenizer, model.prompt_format, "training data")
    bins: dict[int, list[Example]] = defaultdict(list)
    while True:
        growth = min(1.0, 3 * bar.n / config.steps)
        limit = round(config.first_max_tokens + growth * (config.max_tokens - config.first_max_tokens))
        example = source.draw(rng, limit)
        bucket = padded_length(len(example.ids), 128)
        bins[bucket].append(example)
        if len(bins[bucket]) * bucket >= config.tokens_per_batch:
            yield collate(bins.pop(bucket), model.pad_id, 128)


def _validation_batches(
    rules: Sequence[Rule], model: LoadedModel, config: TrainConfig
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One fixed batch for every 4 held-out rules that have two pairs short enough, at most 16."""
    rng = np.random.default_rng([config.seed, 2])
    fitting = [rule for rule in rules if sum(sorted(map(_pair_tokens, rule.pairs))[:2]) < config.max_tokens]
    for first in range(0, min(len(fitting), 64), 4):
        source = ExampleSource(fitting[first : first + 4], model, config)
        yield collate([source.draw(rng, config.max_tokens) for _ in range(4)], model.pad_id, 128)


@torch.no_grad()
def mean_loss(model: LoadedModel, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean loss of some batches in nats; None where there are none."""
    losses = [completion_loss(model, ids.to(model.device), labels.to(model.device)).item() for ids, labels in batches]
    return sum(losses) / len(losses) if losses else None


def _facts_of(start: Path | None) -> dict[str, Any] | None:
    """How the model that training went on from was made; None for a new model."""
    if start is None:
        return None
    card = read_card(start)
    return card.facts if card else {"model": start.name}


def _card(
    config: TrainConfig,
    leaks: list[str],
    held: list[Rule],
    steps: int,
    n_tokens: int,
    seconds: float,
    row: dict[str, Any],
) -> dict[str, Any]:
    """What a reader must know of a model: data, leaks, tokens, time, losses, settings."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("out", "start", "data")}
    return {
        "data": [Path(entry).name for entry in config.data],
        "started_from": _facts_of(config.start),
        "leaks_trained_on": leaks if config.allow_leak else [],
        "leaks_left_out": [] if config.allow_leak else leaks,
        "held_out_rules": sorted({rule.id for rule in held}),
        "steps": steps,
        "tokens": n_tokens,
        "hours": round(seconds / 3600, 3),
        "loss": row["loss"],
        "validation_loss": row["validation_loss"],
        "torch": torch.__version__,
        "settings": json.loads(json.dumps(settings, default=str)),
    }
