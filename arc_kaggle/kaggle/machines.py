"""Which options of `solve` suit which machine and which model, as tables. None of them has been measured there yet.

Precision and sizes follow the projection of memory that `arc-kaggle preflight` makes, with its headroom: the longest
training example, the keys and values of a batch, and the weights, in 4 bits where they would not fit otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arc_kaggle.errors import ConfigError
from arc_kaggle.system.hardware import Gpu

Options = Mapping[str, Any]
"""Options of `solve` by dotted name, such as generate.n_views."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that Kaggle lends: so many GPUs of a kind, and the options that suit it."""

    kind: str
    n_gpus: int
    options: Options


T4: Options = {"precision": "fp16", "generate.tokens_per_batch": 32768}
L4: Options = {"precision": "bf16", "generate.tokens_per_batch": 65536}
MACHINES = {
    "2xT4": Machine("T4", 2, T4),
    "1xL4": Machine("L4", 1, L4),
    "4xL4": Machine("L4", 4, L4),
}
"""Kaggle's machine_shape for them: NvidiaTeslaT4, NvidiaL4X1, NvidiaL4."""


@dataclass(frozen=True, slots=True)
class ModelPreset:
    """A public checkpoint: how to know its folder, what it needs, and what more on which kind of GPU."""

    path: str
    """Regular expression of the path it is mounted at."""
    options: Options
    on: Mapping[str, Options]


MODELS = {
    "qwen2.5-0.5b": ModelPreset(
        r"qwen2\.?5.*0\.?5b",
        {"prompt": "arc24", "recipe": "arc24", "cut_vocabulary": True},
        {"T4": {"tune.max_tokens": 4096}, "L4": {"tune.max_tokens": 8192}},
    ),
    "nvarc-4b": ModelPreset(
        r"qwen3.*4b.*(grids|nvarc)|nvarc",
        {"prompt": "nvarc", "recipe": "nvarc", "four_bit": True},
        {"T4": {"tune.max_tokens": 1536, "tune.lora.rank": 64}, "L4": {"tune.max_tokens": 2048}},
    ),
    "architects-3b": ModelPreset(
        r"llama.*3b|architects.*3b",
        {"prompt": "architects", "recipe": "poe"},
        {"T4": {"four_bit": True, "tune.max_tokens": 2048}, "L4": {"tune.max_tokens": 3072}},
    ),
    "architects-8b": ModelPreset(
        r"nemo|minitron|architects.*8b",
        {"prompt": "architects", "recipe": "poe", "four_bit": True},
        {"T4": {"tune.max_tokens": 1024}, "L4": {"tune.max_tokens": 2048}},
    ),
}
"""By name. What they say follows the recipes and the prompt presets. NVARC's adapter of rank 256 does not fit a T4, so
it has rank 64 there."""


def machine_named(name: str, gpus: Sequence[Gpu]) -> Machine | None:
    """The machine of a name, or for `auto` the one these GPUs are; None for any other. Raises ConfigError."""
    if name != "auto":
        if name not in MACHINES:
            raise ConfigError(f"PRESET {name!r}: no such machine, expected auto or one of {', '.join(MACHINES)}")
        return MACHINES[name]
    alike = (m for m in MACHINES.values() if len(gpus) == m.n_gpus and all(m.kind in gpu.name for gpu in gpus))
    return next(alike, None)


def model_named(path: str) -> str:
    """The preset of the model at a path below the mounts; empty where it is none of the known ones."""
    return next((name for name, preset in MODELS.items() if re.search(preset.path, path.lower())), "")


def options_for(machine: Machine | None, model: str) -> dict[str, Any]:
    """Options of `solve` for a model preset on a machine; the model's own come after the machine's."""
    preset = MODELS.get(model)
    chosen: dict[str, Any] = {**(machine.options if machine else {}), **(preset.options if preset else {})}
    return {**chosen, **(preset.on.get(machine.kind, {}) if preset and machine else {})}


def as_words(options: Options) -> list[str]:
    """Options as the command line takes them: {"generate.n_views": 8, "four_bit": True} -> --generate.n-views 8 ..."""
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            head, _, last = flag.rpartition(".")
            words.append(f"--{flag}" if value else f"--{head}.no-{last}" if head else f"--no-{last}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return words
