"""Command `synth`: it makes up rules, verifies every pair, and writes them as training data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np

from arc_kaggle.config.options import Count, Range, Seed, Share, check_ranges
from arc_kaggle.drawing import draw_sheet
from arc_kaggle.errors import ConfigError
from arc_kaggle.synth.rules.catalogue import FAMILIES
from arc_kaggle.synth.rules.sampling import Sample, sample
from arc_kaggle.synth.sample import describe, is_verified, rule_id
from arc_kaggle.system.steps import bar
from arc_kaggle.tasks.conversions import write_pair_file
from arc_kaggle.tasks.leaks import LeakFinder, find_leaks_of
from arc_kaggle.tasks.task import Pair, Task, task_to_json

SUFFIXES = (".jsonl", ".jsonl.xz", ".json")
SHEET_PAIRS = 3
"""Pairs of a rule on the picture."""


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """Make up rules and write them as training data. Pairs that an evaluation set contains are left out."""

    out: Path
    """A pair file (.jsonl, .jsonl.xz), or Kaggle's format (.json; the last pair of a rule is its test)."""
    n_rules: Count = 1000
    """Number of rules to write."""
    n_pairs: Annotated[int, Range(2, 1000)] = 5
    """Pairs of every rule."""
    seed: Seed = 0
    """Seed of the rules. Rule i of a seed is always the same, however many rules are asked for."""
    difficulty: Share = 1.0
    """Highest difficulty, 0..1. At 0 grids have 3 to 6 cells a side; at 1 they have up to 24, and up to three rules are
    chained."""
    families: tuple[str, ...] = ()
    """Families (`gravity`) or chains of them (`crop_largest+tile`) to take in turn; all of
    them where none is given."""
    against: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")
    """Evaluation sets that no pair may come from, up to symmetry and colours."""
    sheet: Path | None = None
    """Picture to draw the first rules into, .png or .svg."""
    sheet_rules: Annotated[int, Range(1, 1000)] = 64
    """Most rules on the picture."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.out.name.endswith(SUFFIXES):
            raise ConfigError(
                f"option out: found {self.out.name!r}, expected a name that ends in {', '.join(SUFFIXES)}"
            )
        for name in (part for chain in self.families for part in chain.split("+")):
            if name not in FAMILIES:
                close = get_close_matches(name, FAMILIES, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise ConfigError(f"option families: no family {name!r}{hint}; expected one of {', '.join(FAMILIES)}")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what was refused on the way."""

    path: Path
    n_rules: int
    n_pairs: int
    chains: Counter[tuple[str, ...]]
    """Rules by their families."""
    refused: Counter[str]
    """Rules that were not taken, by reason."""

    @property
    def text(self) -> str:
        singles = sum(len(chain) == 1 for chain in self.chains)
        families = len({name for chain in self.chains for name in chain})
        lines = [
            f"{self.path}: {self.n_rules} rules, {self.n_pairs} pairs, all verified; {families} families, "
            f"{singles} of them alone and {len(self.chains) - singles} chains",
            f"refused on the way: {self.refused.total()}",
            *(f"  {count:>7} {reason}" for reason, count in self.refused.most_common()),
        ]
        return "\n".join(lines)


def run(config: SynthConfig) -> int:
    """Write the rules, and say what was written and what was refused."""
    print(synth(config).text)
    return 0


def synth(config: SynthConfig) -> Written:
    """Write rules. Raises ConfigError where they cannot be drawn or written."""
    finder = find_leaks_of(config.against)
    refused: Counter[str] = Counter()
    chains: Counter[tuple[str, ...]] = Counter()
    shown: list[tuple[str, Sequence[Pair]]] = []

    def counted() -> Iterator[Sample]:
        rules = islice(draw_rules(config, finder, refused), config.n_rules)
        for rule in bar(rules, total=config.n_rules, unit="rule"):
            chains[rule.names] += 1
            if len(shown) < config.sheet_rules:
                shown.append((describe(rule), rule.pairs[:SHEET_PAIRS]))
            yield rule

    try:
        write_rules(counted(), config.out)
        if config.sheet is not None:
            draw_sheet(shown, config.sheet, f"{config.out.name}: the first {len(shown)} of {config.n_rules} rules")
    except OSError as error:
        raise ConfigError(f"out {config.out}: cannot be written to ({error.strerror})") from error
    return Written(config.out, config.n_rules, config.n_rules * config.n_pairs, chains, refused)


def draw_rules(config: SynthConfig, finder: LeakFinder, refused: Counter[str]) -> Iterator[Sample]:
    """Endless rules; the i-th follows from seed and i. `refused` counts what is not taken."""
    chains = [tuple(chain.split("+")) for chain in config.families] or [()]
    number = 0
    while True:
        rng = np.random.default_rng([config.seed, number])
        drawn = sample(rng, config.difficulty, config.n_pairs, chains[number % len(chains)])
        refused.update(drawn.refused)
        number += 1
        if not is_verified(drawn):
            refused["the verifier finds another output"] += 1
        elif any(finder.find(pair) for pair in drawn.pairs):
            refused["a pair is in an evaluation set"] += 1
        else:
            yield drawn


def write_rules(rules: Iterable[Sample], path: Path) -> None:
    """As a pair file or in Kaggle's format, by the suffix; what was there stays until all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".json":
        write_pair_file(path, ((rule_id(rule), rule.pairs) for rule in rules))
        return
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(_task_lines(rules))
    partial.replace(path)


def _task_lines(rules: Iterable[Sample]) -> Iterator[str]:
    for i, rule in enumerate(rules):
        task = task_to_json(Task(rule_id(rule), rule.pairs[:-1], rule.pairs[-1:]))
        yield f"{',' if i else '{'}\n{json.dumps(rule_id(rule))}:{json.dumps(task, separators=(',', ':'))}"
    yield "\n}\n"
