"""Training on prompts with completions: a weighted mixture of files, their examples, and held-out items."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from arc_kaggle.config.train import PROMPTS, TrainConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.tasks.prompt_sets import PromptItem, read_prompt_set
from arc_kaggle.text.asking import Asking
from arc_kaggle.text.tokens import Example
from arc_kaggle.training.mixture import named_apart, named_number, unit_digest
from arc_kaggle.training.packing import Batch, Ids
from arc_kaggle.training.validation import in_batches, mean_of, summed


@dataclass(frozen=True, slots=True, eq=False)
class PromptFile:
    """The items of one file; those whose question's digest is below the held-out share are for validation."""

    name: str
    weight: float
    training: tuple[PromptItem, ...]
    held_out: tuple[PromptItem, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PromptMixture:
    """Files to draw from in proportion to their weights. Which sets they may be part of is not known: no leak check."""

    files: tuple[PromptFile, ...]
    leaks: tuple[str, ...] = ()

    @property
    def n_items(self) -> int:
        return sum(len(file.training) + len(file.held_out) for file in self.files)

    @property
    def held_out_ids(self) -> list[str]:
        return sorted(item.id for file in self.files for item in file.held_out)


def load_prompt_mixture(config: TrainConfig) -> PromptMixture:
    """The files that `data` names as prompts:FILE or prompts:FILE=WEIGHT. Raises TaskError, ConfigError."""
    return PromptMixture(tuple(named_apart([_file(entry, config) for entry in config.data])))


def _file(entry: str, config: TrainConfig) -> PromptFile:
    name, _, text = entry.partition("=")
    path = Path(name.removeprefix(PROMPTS))
    items = read_prompt_set(path)
    if without := [item.id for item in items if not item.completion]:
        raise ConfigError(f"data {entry!r}: found no completion of item {without[0]}, expected one to train on")
    shares = [unit_digest(item.question) for item in items]
    held = tuple(item for item, share in zip(items, shares, strict=True) if share < config.hold_out)
    kept = tuple(item for item, share in zip(items, shares, strict=True) if share >= config.hold_out)
    return PromptFile(path.name, named_number(entry, text or "1", "weight", float("inf")), kept, held)


@dataclass(frozen=True, slots=True, eq=False)
class PromptSource:
    """Draws examples of a mixture: first a file by its weight, then one of its items that are short enough."""

    mixture: PromptMixture
    tokenizer: Any
    config: TrainConfig
    examples: list[list[Example]] = field(init=False)
    """Of each file, those of at most `max_tokens`."""

    def __post_init__(self) -> None:
        everything = self.config.loss == "everything"
        made = [self._fitting(file.name, file.training, everything) for file in self.mixture.files]
        if not all(made):
            raise ConfigError(f"data: found a file with no item to train on within {self.config.max_tokens} tokens")
        object.__setattr__(self, "examples", made)

    def _fitting(self, name: str, items: Sequence[PromptItem], everything: bool) -> list[Example]:
        """Longer ones are left out, and it is said how many: nothing is ever cut."""
        asking = Asking(self.tokenizer, self.config.chat, self.config.prefix)
        made = [asking.example(item, everything) for item in items]
        kept = [example for example in made if len(example.ids) <= self.config.max_tokens]
        if len(kept) < len(made):
            print(
                f"arc-kaggle: {name}: left out {len(made) - len(kept)} of {len(made)} items, longer than "
                f"{self.config.max_tokens} tokens",
                file=sys.stderr,
            )
        return kept

    def try_draw(self, rng: np.random.Generator, max_tokens: int) -> Example | None:
        cumulative = np.cumsum([file.weight for file in self.mixture.files])
        number = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        examples = self.examples[min(number, len(self.examples) - 1)]
        example = examples[int(rng.integers(len(examples)))]
        return example if len(example.ids) <= max_tokens else None

    def draw(self, rng: np.random.Generator, max_tokens: int) -> Example:
        """As `try_draw`, until one fits: `max_tokens` is that of the config, for which all do."""
        while (example := self.try_draw(rng, max_tokens)) is None:
            pass
        return example

    def validation(self, pad_id: int) -> PromptValidation:
        """The held-out items; their loss is that of the completions, whatever is trained, so that runs compare."""
        batches = {
            file.name: list(in_batches(self._fitting(file.name, file.held_out, False), self.config.bucket, pad_id))
            for file in self.mixture.files
        }
        return PromptValidation(batches)


@dataclass(frozen=True, slots=True, eq=False)
class PromptValidation:
    """Held-out items of every file, by its name."""

    examples: dict[str, list[Batch[Ids]]]
    n_puzzles: dict[str, int] = field(default_factory=dict)

    @property
    def has_examples(self) -> bool:
        return any(self.examples.values())

    def measure(self, model: LoadedModel, prefix: str = "") -> dict[str, float | int | None]:
        """Loss in nats a completion's token, None without items; of all, and of each file where there are more."""
        model.network.eval()
        losses = {name: summed(model, batches) for name, batches in self.examples.items()}
        model.network.train()
        row: dict[str, float | int | None] = {"loss": mean_of(losses.values())}
        for name in losses if len(losses) > 1 else ():
            row[f"loss/{name}"] = mean_of([losses[name]])
        return {f"{prefix}validation_{key}": value for key, value in row.items()}
