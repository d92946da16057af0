"""Training examples are drawn on the fly: pairs of a rule, perhaps remade into a new task, in a random view."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.train import TrainConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.augmentation import sample_augmentation
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS
from arc_kaggle.tasks.selection import n_symbols
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.fit_prompt import MakePrompt, fit_training
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import inputs_prompt, training_prompt
from arc_kaggle.text.tokens import Example
from arc_kaggle.training.mixture import Mixture, Pairs, Rule, pair_symbols
from arc_kaggle.training.remake import remake

MOST_DRAWS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class ExampleSource:
    """Draws training examples from a mixture of rules, in the prompt format of a model."""

    mixture: Mixture
    notation: Notation
    config: TrainConfig
    tokens_per_symbol: float = field(init=False)
    """Tokens of a large grid in the model's encoding for each symbol of the minimal one."""

    def __post_init__(self) -> None:
        grid = np.add.outer(np.arange(MAX_SIDE), np.arange(MAX_SIDE)).astype(np.int8) % N_COLOURS
        n_tokens = len(self.notation.ids(self.notation.encoder.encode(grid)))
        object.__setattr__(self, "tokens_per_symbol", n_tokens / n_symbols(grid))

    def symbols_within(self, max_tokens: int) -> float:
        """Symbols of the minimal encoding that an example of so many tokens may have."""
        by_tokens = (max_tokens - 1) / self.tokens_per_symbol
        return min(by_tokens, self.config.max_symbols or by_tokens)

    def draw(self, rng: np.random.Generator, max_tokens: int) -> Example:
        """Draw one example of at most `max_tokens` tokens. Raises ConfigError where no two pairs of any rule fit."""
        for _ in range(MOST_DRAWS):
            if example := self.try_draw(rng, max_tokens):
                return example
        raise ConfigError(
            f"training data: found no two pairs of a rule within {max_tokens} tokens in {MOST_DRAWS} draws; raise "
            "--first-max-tokens, or add data with smaller grids"
        )

    def try_draw(self, rng: np.random.Generator, max_tokens: int) -> Example | None:
        """Draw an example of one rule; None if no two of its pairs fit."""
        pairs = self._choose(self.mixture.draw(rng), rng, max_tokens)
        return self.example(pairs, rng, max_tokens) if len(pairs) >= 2 else None

    def _choose(self, rule: Rule, rng: np.random.Generator, max_tokens: int) -> Pairs:
        """Choose pairs in random order, as many as are wanted and may fit, and remake them in a share of the cases."""
        most, symbols = self.config.max_pairs, self.symbols_within(max_tokens)
        wanted = int(rng.integers(min(3, most), most + 1))
        order = rng.permutation(np.flatnonzero(rule.lengths <= symbols))[: 2 * most]
        pairs, lengths = tuple(rule.pairs[i] for i in order), rule.lengths[order]
        if rng.random() < self.config.remake_share:
            pairs = self._remade(pairs, rng)
            lengths = np.array([pair_symbols(pair) for pair in pairs], dtype=np.int64)
        return tuple(pairs[i] for i in choose_fitting(lengths, symbols, wanted))

    def _remade(self, pairs: Pairs, rng: np.random.Generator) -> Pairs:
        """Remake pairs into a new task; one that happens to be in an evaluation set is left out."""
        return tuple(pair for pair in remake(pairs, rng) if self.mixture.finder.find(pair) is None)

    def example(self, pairs: Pairs, rng: np.random.Generator, max_tokens: int) -> Example | None:
        """Make an example of the pairs in a random view, or of as many of them as fit; None if no two do."""
        view = sample_augmentation(rng, len(pairs), self.config.keep_background).apply_task(Task("", pairs, ()))
        make: MakePrompt = training_prompt
        notation = replace(self.notation, loss=self.config.loss)
        if self.config.inputs_share and rng.random() < self.config.inputs_share:
            notation, make = self.notation.for_inputs, inputs_prompt
        fitted = fit_training(view, notation, max_tokens, "last", make)
        return fitted.example if fitted.fits else None


def choose_fitting(lengths: NDArray[np.int64], symbols: float, wanted: int) -> list[int]:
    """Positions of the first pairs, `wanted` at most, that fit together."""
    chosen: list[int] = []
    for i, length in enumerate(lengths):
        if len(chosen) < wanted and length <= symbols:
            chosen.append(i)
            symbols -= int(length)
    return chosen
