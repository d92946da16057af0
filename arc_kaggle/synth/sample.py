"""Rules made up by chance: families of rules, alone and in chains, with parameters and pairs that show them."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from arc_kaggle.synth.rules.sampling import Sample, sample
from arc_kaggle.synth.verifiers.catalogue import verify
from arc_kaggle.tasks.conversions import pair_lists
from arc_kaggle.tasks.task import Pair


def sample_rule(rng: np.random.Generator, difficulty: float, n_pairs: int) -> tuple[str, tuple[Pair, ...]]:
    """A rule: its id, such as `synth/crop_largest+tile/8f3a29c1`, and pairs that all follow it and all differ.

    `difficulty`, 0..1, is the upper end. Equal states of the generator give equal rules. Raises ConfigError.
    """
    drawn = sample(rng, difficulty, n_pairs)
    return rule_id(drawn), drawn.pairs


def rule_id(drawn: Sample) -> str:
    """The names of the families and a digest of parameters and pairs."""
    content = json.dumps([describe(drawn), pair_lists(drawn.pairs)])
    return f"synth/{'+'.join(drawn.names)}/{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def describe(drawn: Sample) -> str:
    """The rule in one line: `crop_largest + tile(down=2, across=1)`."""
    return " + ".join(_step(step.family.name, step.params) for step in drawn.steps)


def _step(name: str, params: dict[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in params.items())})" if params else name


def is_verified(drawn: Sample) -> bool:
    """Whether the verifiers, which share no code with the families, find the same outputs for all pairs."""
    chain = [(step.family.name, step.params) for step in drawn.steps]
    return all(pair.output is not None and verify(chain, pair.input, pair.output) for pair in drawn.pairs)
