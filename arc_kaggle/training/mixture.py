"""Training data: a weighted mixture of rules from files and of synthetic rules, without any evaluation task.

A rule is a hidden rule with any number of pairs. Some are held out for validation: of a file those whose digest of the
id falls below a share, of the generator those of the seeds 0, 1, 2 ..., which training never uses.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError, LeakError
from arc_kaggle.system.steps import bar
from arc_kaggle.tasks.dataset import load_rules, load_tasks
from arc_kaggle.tasks.entries import skipping
from arc_kaggle.tasks.leaks import LeakFinder, find_leaks_of
from arc_kaggle.tasks.selection import n_symbols
from arc_kaggle.tasks.task import Pair

Pairs = tuple[Pair, ...]

DEMONSTRATIONS = "demonstrations:"
"""The prefix of a source of which only train pairs are taken, never a test pair."""
FIRST_TRAINING_SEED = 2**32
"""Seeds of synthetic rules: below it for validation, from it on for training."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Pairs that all follow one hidden rule."""

    id: str
    pairs: Pairs
    lengths: NDArray[np.int64] = field(init=False, repr=False)
    """The number of symbols of each pair, shape (pairs,); see `pair_symbols`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", np.array([pair_symbols(pair) for pair in self.pairs], dtype=np.int64))


def pair_symbols(pair: Pair) -> int:
    """The number of symbols of a pair in the minimal encoding: of the pair or of its transpose, whichever has more."""
    assert pair.output is not None, "rules hold known outputs only"
    as_is = n_symbols(pair.input) + n_symbols(pair.output)
    return max(as_is, n_symbols(pair.input.T) + n_symbols(pair.output.T)) + 1


class HasName(Protocol):
    """Anything that is named."""

    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=HasName)


class Source(HasName, Protocol):
    """Where rules come from, in proportion to their weights; a source with no rule to train on has the weight 0."""

    @property
    def weight(self) -> float: ...

    def draw(self, rng: np.random.Generator) -> Rule:
        """Draw a rule to train on."""
        ...

    def held_out(self, n: int) -> Sequence[Rule]:
        """At most `n` rules that are never drawn; the same whatever the seed of the run."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """A source of the rules of a task set or a file; each one is equally likely."""

    name: str
    weight: float
    training: tuple[Rule, ...]
    validation: tuple[Rule, ...]

    def draw(self, rng: np.random.Generator) -> Rule:
        return self.training[int(rng.integers(len(self.training)))]

    def held_out(self, n: int) -> Sequence[Rule]:
        return sorted(self.validation, key=lambda rule: unit_digest(rule.id))[:n]


@dataclass(frozen=True, slots=True, eq=False)
class SynthSource:
    """A source of endless synthetic rules up to a difficulty; rules with a pair of an evaluation set are left out."""

    name: str
    weight: float
    difficulty: float
    n_pairs: int
    finder: LeakFinder

    def draw(self, rng: np.random.Generator) -> Rule:
        return self.rule(int(rng.integers(FIRST_TRAINING_SEED, 2**63)))

    def held_out(self, n: int) -> Sequence[Rule]:
        return [self.rule(seed) for seed in range(n)]

    def rule(self, seed: int) -> Rule:
        from arc_kaggle.synth.sample import sample_rule

        name, pairs = sample_rule(np.random.default_rng(seed), self.difficulty, self.n_pairs)
        return Rule(name, tuple(pair for pair in pairs if self.finder.find(pair) is None))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """The sources of a training run, and the leaks that were found in them."""

    sources: tuple[Source, ...]
    finder: LeakFinder
    leaks: tuple[str, ...]
    """A line for each rule of a file with pairs of an evaluation set."""

    def draw(self, rng: np.random.Generator) -> Rule:
        """Draw a rule: first a source by its weight, then one of its rules."""
        cumulative = np.cumsum([source.weight for source in self.sources])
        index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return self.sources[min(index, len(self.sources) - 1)].draw(rng)

    @property
    def n_items(self) -> int:
        """The rules of all files."""
        return sum(len(s.training) + len(s.validation) for s in self.sources if isinstance(s, FileSource))

    @property
    def held_out_ids(self) -> list[str]:
        """The ids of all rules of files that are held out."""
        return sorted({rule.id for s in self.sources if isinstance(s, FileSource) for rule in s.validation})


def load_mixture(config: TrainConfig) -> Mixture:
    """Load the mixture that `data` describes. Raises LeakError, ConfigError, TaskError."""
    finder = find_leaks_of(config.against)
    leaks: list[str] = []
    sources = [_source(entry, config, finder, leaks) for entry in config.data]
    if leaks and not (config.drop_leaks or config.allow_leak):
        raise LeakError(
            f"{len(leaks)} rules appear in {', '.join(config.against)}; the first: {leaks[0]}. Use other data, or "
            "--drop-leaks to leave them out, or --allow-leak to train on them and have the model card say so"
        )
    if not any(source.weight for source in sources):
        raise ConfigError("training data: found no rule to train on, expected one or more")
    return Mixture(tuple(named_apart(sources)), finder, tuple(leaks))


def named_apart(sources: Sequence[Named]) -> Iterator[Named]:
    """Number the sources whose files have the same name in different folders."""
    seen: Counter[str] = Counter()
    for source in sources:
        seen[source.name] += 1
        again = seen[source.name] > 1
        yield replace(cast(Any, source), name=f"{source.name}#{seen[source.name]}") if again else source


def _source(entry: str, config: TrainConfig, finder: LeakFinder, leaks: list[str]) -> FileSource | SynthSource:
    name, _, text = entry.partition("=")
    weight = named_number(entry, text or "1", "weight", float("inf"))
    if name == "synth" or name.startswith("synth:"):
        difficulty = named_number(entry, name.partition(":")[2] or "1", "difficulty", 1.0)
        return SynthSource(name, weight, difficulty, config.max_pairs, finder)
    if name.startswith(DEMONSTRATIONS):
        return _demonstrations(entry, name.removeprefix(DEMONSTRATIONS), weight)
    read = bar(load_rules(name, skipping(config.skip_bad)), desc=name, unit="rule", delay=1)
    rules = [Rule(rule_id, pairs) for rule_id, pairs in read if len(pairs) >= 2]
    if not rules:
        raise ConfigError(f"data {entry!r}: found no rule with two pairs, expected one or more to train on")
    clean, found = keep_clean(rules, finder)
    leaks += found
    training, validation = split_rules(rules if config.allow_leak else clean, config.hold_out)
    return FileSource(Path(name).name, weight if training else 0.0, training, validation)


def _demonstrations(entry: str, source: str, weight: float) -> FileSource:
    """Train pairs alone, which any solver may see, so that no evaluation set forbids them; none is held out."""
    rules = tuple(Rule(task.id, task.train) for task in load_tasks(source) if len(task.train) >= 2)
    if not rules:
        raise ConfigError(f"data {entry!r}: found no task with two train pairs, expected one or more to train on")
    return FileSource(DEMONSTRATIONS + Path(source).name, weight, rules, ())


def named_number(entry: str, text: str, what: str, most: float) -> float:
    """Parse the number after the name of a source; it must be over 0. Raises ConfigError."""
    number = float(text) if re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text) else -1.0
    if not 0 < number <= most or number == float("inf"):
        limit = "over 0" if most == float("inf") else f"over 0, up to {most:g}"
        raise ConfigError(
            f"data {entry!r}: found {what} {text!r}, expected a number {limit}, as in arc1:training=2.5 or synth:0.6=3"
        )
    return number


def keep_clean(rules: Iterable[Rule], finder: LeakFinder) -> tuple[list[Rule], list[str]]:
    """The rules without pairs of an evaluation set, and a line for each leak.

    A rule leaks by its id, and then as a whole, or by any of its pairs; it is dropped where it keeps fewer than two.
    """
    clean, leaks = [], []
    for rule in bar(rules, desc="leak check", unit="rule"):
        found = dict.fromkeys(rule.pairs, "") if rule.id in finder.ids else _leaking(rule, finder)
        if found:
            leaks.append(_leak_line(rule, found))
        kept = tuple(pair for pair in rule.pairs if pair not in found)
        clean += [replace(rule, pairs=kept) if found else rule] if len(kept) >= 2 else []
    return clean, leaks


def _leaking(rule: Rule, finder: LeakFinder) -> dict[Pair, str]:
    found = {pair: finder.find(pair) for pair in rule.pairs}
    return {pair: task_id for pair, task_id in found.items() if task_id}


def _leak_line(rule: Rule, found: Mapping[Pair, str]) -> str:
    """`found` holds for each pair that leaks the task that has it; no id where the whole rule has the id of a task."""
    which = f"{len(found)} of {len(rule.pairs)} pairs leak"
    if task_ids := sorted({task_id for task_id in found.values() if task_id}):
        return f"rule {rule.id}: {which}, task {' and '.join(task_ids)} has them too"
    return f"rule {rule.id}: {which}, an evaluation task has the same id"


def split_rules(rules: Sequence[Rule], hold_out: float) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """(training, validation): a rule is held out where the digest of its id, as a number 0..1, is below `hold_out`."""
    held = [rule for rule in rules if unit_digest(rule.id) < hold_out]
    return tuple(rule for rule in rules if unit_digest(rule.id) >= hold_out), tuple(held)


def unit_digest(text: str) -> float:
    """A number 0..1 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:4], "big") / 2**32
