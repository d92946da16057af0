"""Memory of a run by formulas, from the shape of the network that its folder tells without loading a weight."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.config.tune import LoraConfig, TuneConfig
from arc_kaggle.errors import ModelError
from arc_kaggle.models.four_bit import HEADS
from arc_kaggle.system.inputs import open_input_file, read_json_file
from arc_kaggle.system.integers import round_up

GIB = 2**30
BUCKET = 64
"""Lengths are rounded up to a multiple of this many tokens."""
NF4_BITS = 4.127
"""Of a weight in 4 bits, its share of the scales included."""
MOST_KEPT = 1024
"""More tokens than a cut vocabulary keeps of any format."""
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
"""What config.json calls the number of layers."""
LAYER_NUMBER = re.compile(r"\.(\d+)\.")
"""In the name of a weight."""
LARGEST_HEADER = 100_000_000
"""Bytes; the format of safetensors allows no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The sizes of a network."""

    n_layers: int
    hidden: int
    inner: int
    """Width of the MLP."""
    n_heads: int
    n_kept: int
    """Heads of keys and values."""
    head_size: int
    n_tokens: int
    """Tokens of the vocabulary."""
    matrices: Mapping[str, tuple[int, int]]
    """(outputs, inputs) of every linear layer, (tokens, width) of embeddings, by path; of the head in any case."""
    tied: bool
    """Whether head and embeddings are one matrix."""
    n_other: int = 0
    """Numbers in no matrix: norms, biases, stacked experts."""

    @classmethod
    def of(cls, config: Mapping[str, Any], matrices: Mapping[str, tuple[int, int]], tied: bool, n_other: int) -> Shape:
        """The shape by the config of the text model, under the names of transformers."""
        hidden, n_heads = config["hidden_size"], config["num_attention_heads"]
        return cls(
            n_layers=config["num_hidden_layers"],
            hidden=hidden,
            inner=config.get("intermediate_size") or 4 * hidden,
            n_heads=n_heads,
            n_kept=config.get("num_key_value_heads") or n_heads,
            head_size=config.get("head_dim") or hidden // n_heads,
            n_tokens=config["vocab_size"],
            matrices=matrices,
            tied=tied,
            n_other=n_other,
        )

    def weight_bytes(self, itemsize: int, four_bit: bool = False, cut: bool = False) -> int:
        """Bytes of all weights, held as numbers of so many bytes, linear layers in 4 bits, the vocabulary cut."""
        total = float(self.n_other * itemsize)
        for path, (n_rows, width) in self.matrices.items():
            name = path.rpartition(".")[2]
            if n_rows == self.n_tokens and not (self.tied and name == "lm_head"):
                total += (min(n_rows, MOST_KEPT) if cut else n_rows) * width * itemsize
            elif n_rows != self.n_tokens:
                packed = four_bit and not {*path.split(".")} & {*HEADS, *FOUR_BIT_SKIP}
                total += n_rows * width * (NF4_BITS / 8 if packed else itemsize)
        return int(total)

    def cache_bytes(self, itemsize: int) -> int:
        """Bytes of one token's keys and values; sliding windows do not count, so that it is an upper bound."""
        return 2 * self.n_layers * self.n_kept * self.head_size * itemsize

    def adapter_sides(self, lora: LoraConfig) -> int:
        """Inputs and outputs of the modules that an adapter is attached to: its factors have the rank times these.

        For `all-linear` the head too, so it is the most there can be.
        """
        linear = "all-linear" in lora.modules
        return sum(
            n_rows + width
            for path, (n_rows, width) in self.matrices.items()
            if (linear and not _is_embedding(path)) or any(f".{path}".endswith(f".{name}") for name in lora.modules)
        )

    def activation_bytes(self, itemsize: int, checkpointing: bool, n_attention: int = 0) -> int:
        """Bytes of one token in training, for the backward pass: about 8 vectors of the width and 4 of the MLP a layer.

        Those of its attention, too, two bytes each, where `n_attention` tokens are seen and they are kept. With
        checkpointing it is one vector of the width a layer, and what one layer keeps.
        """
        a_layer = (8 * self.hidden + 4 * self.inner) * itemsize
        a_layer += self.n_heads * n_attention  # half of them lie behind the causal mask
        if checkpointing:
            return self.n_layers * self.hidden * itemsize + a_layer
        return self.n_layers * a_layer

    def training_bytes(self, tune: TuneConfig, itemsize: int, weights: int, kept_up_to: int = 0) -> int:
        """Bytes of a step on the longest examples, beside the weights, which are so many bytes.

        Four numbers for each that is trained: gradient, two moments, and the adapter in fp32 or the copy of the base.
        `kept_up_to` is the longest text whose attention is kept.
        """
        if tune.weights == "none":
            return 0
        longest = round_up(tune.max_tokens, tune.bucket)
        n_attention = longest if longest <= kept_up_to else 0
        a_token = self.activation_bytes(itemsize, tune.checkpointing, n_attention)
        activations = tune.examples_a_step(longest) * longest * a_token
        if tune.weights == "all":
            return activations + 4 * weights
        return activations + 4 * 4 * tune.lora.rank * self.adapter_sides(tune.lora)


def _is_embedding(path: str) -> bool:
    return path.rpartition(".")[2] in ("embed_tokens", "wte", "embed_in")


def answer_slots(generate: GenerateConfig) -> int:
    """Tokens of the longest prompt and its answer."""
    return round_up(generate.max_prompt_tokens, BUCKET) + generate.max_new_tokens


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a run at its largest; tuning and answering come one after the other, beside the weights."""

    weights: int
    cache: int
    """Keys and values of the largest batch of prompts and answers."""
    training: int
    """What is trained, its gradient and AdamW's two moments, the copy of the base, and the activations of a step."""

    @property
    def peak(self) -> int:
        return self.weights + max(self.cache, self.training)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "keys and values": self.cache, "fine-tuning": self.training}
        return ", ".join(f"{name} {bytes / GIB:.2f}" for name, bytes in parts.items())


def project(
    shape: Shape, weights: int, itemsize: int, generate: GenerateConfig, tune: TuneConfig, kept_up_to: int = 0
) -> Footprint:
    """The footprint of the longest prompts and examples that the configs allow; `weights` are those held, in bytes."""
    n_slots = answer_slots(generate)
    cache = max(1, generate.tokens_per_batch // n_slots) * n_slots * shape.cache_bytes(itemsize)
    return Footprint(weights, cache, shape.training_bytes(tune, itemsize, weights, kept_up_to))


def read_shape(folder: Path) -> Shape:
    """The shape of a folder by config.json and the headers of the safetensors files. Raises ModelError."""
    try:
        config = read_json_file(folder / "config.json")
        tensors = {name: size for path in sorted(folder.glob("*.safetensors")) for name, size in _header(path)}
        return _shape({**config, **config.get("text_config", {})}, tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"model folder {folder}: its sizes cannot be read ({type(error).__name__}: {error}), expected config.json "
            "and *.safetensors of a causal LM"
        ) from error


def check_layers(folder: Path) -> None:
    """Raise ModelError where config.json says more layers than the safetensors files hold weights of.

    Such a network would be built layer by layer, for as long as that takes, with weights that nobody trained.
    """
    try:
        config = read_json_file(folder / "config.json")
        config = {**config, **config.get("text_config", {})}
        names = [name for path in sorted(folder.glob("*.safetensors")) for name, _ in _header(path)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # whoever loads the folder says what is wrong with it
    said = next((config[key] for key in LAYERS if isinstance(config.get(key), int)), 0)
    numbers = [int(match[1]) for name in names if (match := LAYER_NUMBER.search(name))]
    held = 1 + max(numbers, default=-1)
    if held and said > held:
        raise ModelError(
            f"model folder {folder}: config.json says {said:,} layers, but its safetensors files hold weights of "
            f"{held}, expected the same number; take the config.json that belongs to the weights"
        )


def _shape(config: Mapping[str, Any], tensors: Mapping[str, Sequence[int]]) -> Shape:
    if not tensors:
        raise ValueError("no tensors")
    matrices = {
        name.removesuffix(".weight"): (size[0], size[1])
        for name, size in tensors.items()
        if len(size) == 2 and name.endswith(".weight")
    }
    n_other = sum(_count(size) for name, size in tensors.items() if name.removesuffix(".weight") not in matrices)
    tied = "lm_head" not in matrices
    if tied:
        matrices["lm_head"] = (config["vocab_size"], config["hidden_size"])
    return Shape.of(config, matrices, tied, n_other)


def _count(size: Sequence[int]) -> int:
    total = 1
    for side in size:
        total *= side
    return total


def _header(path: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor of a safetensors file."""
    with open_input_file(path) as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        if not 0 < n_bytes <= LARGEST_HEADER:
            raise ValueError(f"{path.name} has no header")
        header = json.loads(file.read(n_bytes))
    for name, tensor in header.items():
        if name != "__metadata__":
            yield name, tensor["shape"]
