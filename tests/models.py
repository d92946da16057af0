"""Tiny models with random weights, in fp32, and the slow definitions that fast code is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.micro.network import MicroLM
from arc_kaggle.models.grid_network import GridNetwork, GridSizes
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.models.new_model import new_grid_model, new_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.text.box_tokenizer import SYMBOLS
from arc_kaggle.text.tokens import TokenIds

VOCABULARY = len(SYMBOLS)
LONGEST = 512


class TickingClock:
    """Moves on by one second whenever it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def lively_model(seed: int, kind: str = "llama") -> LoadedModel:
    """A model whose large random weights make its answers differ, and end after different numbers of tokens.

    `gpt2` learns absolute positions: it alone notices when all positions of a row are off by the same number.
    `grid alone` is the network of `grid` without transformers, as workers load it. Each is made once, and copied.
    """
    made = _lively_model(seed, kind)
    torch.manual_seed(seed)
    return replace(made, network=deepcopy(made.network))


@cache
def _lively_model(seed: int, kind: str) -> LoadedModel:
    model = new_model(64, 2, seed)
    if kind.startswith("grid"):
        model = new_grid_model(64, 2, seed)
    elif kind != "llama":
        model = replace(model, network=NETWORKS[kind]().eval())
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(10)
    return alone(model) if kind == "grid alone" else model


def alone(model: LoadedModel) -> LoadedModel:
    """A GridLM as the same network without transformers."""
    network = GridNetwork(GridSizes(model.network.config.to_dict()))
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network.eval())


ENTROPY = MicroConfig("entropy", threshold=2.0, most_tokens=4, stop=0.3)


def micro_of(config: MicroConfig = ENTROPY, seed: int = 1, kind: str = "llama") -> tuple[LoadedModel, LoadedModel]:
    """(a micro-step model with large random weights, its base alone)."""
    base = lively_model(seed, kind)
    torch.manual_seed(seed)
    network: Any = MicroLM(base.network, config, deepcopy(base.network)).eval()
    with torch.no_grad():
        for parameter in (*network.merger.parameters(), *network.micro.parameters()):
            parameter.mul_(10 if parameter.ndim > 1 else 1)
    return replace(base, network=network), base


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": LONGEST}
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False))


def _qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    return Qwen2ForCausalLM(Qwen2Config(**shape, num_attention_heads=4, num_key_value_heads=2))


NETWORKS = {"gpt2": _gpt2, "qwen2": _qwen2}


def random_prompts(lengths: Sequence[int], seed: int = 0) -> list[TokenIds]:
    rng = np.random.default_rng(seed)
    return [rng.integers(VOCABULARY, size=length) for length in lengths]


def generate(
    engine: Engine, prompts: Sequence[TokenIds], limits: Sequence[int], deadline: Deadline | None = None
) -> list[Completion]:
    """All completions in the order of their prompts; each must come exactly once."""
    found = list(engine.generate(prompts, limits, deadline or Deadline.never()))
    assert sorted(position for position, _ in found) == list(range(len(prompts)))
    return [completion for _, completion in sorted(found, key=lambda item: item[0])]


@torch.inference_mode()
def generate_slowly(model: LoadedModel, prompt: TokenIds, limit: int) -> Completion:
    """The definition of greedy generation: the full forward again for each token; no cache, no padding, no batch."""
    ids: list[int] = prompt.tolist()
    log_probs: list[float] = []
    ended = False
    while len(log_probs) < limit and not ended:
        logits: Any = model.network(input_ids=torch.tensor([ids]), use_cache=False).logits  # (1, time, vocab)
        best = logits[0, -1].log_softmax(dim=-1).max(dim=-1)
        ids.append(int(best.indices))
        log_probs.append(float(best.values))
        ended = ids[-1] == model.end_id
    return Completion(np.array(ids[len(prompt) :], dtype=np.int64), np.array(log_probs, dtype=np.float32), ended)


def assert_same(found: Completion, expected: Completion, tolerance: float = 0.0) -> None:
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.ended is expected.ended
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=0, atol=tolerance)


def weights_of(network: nn.Module) -> dict[str, str]:
    """Digest of every weight by its name; equal exactly where the weights are equal bit for bit."""
    return {name: digest(tensor) for name, tensor in network.state_dict().items()}


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


@torch.inference_mode()
def logits_of(network: nn.Module, seed: int = 0) -> Tensor:
    """Logits (batch, time, vocab) of some fixed random ids."""
    ids = torch.from_numpy(np.random.default_rng(seed).integers(VOCABULARY, size=(4, 50)))
    logits: Tensor = network(input_ids=ids, use_cache=False).logits
    return logits


TEXTS = [
    "## Example 1\n\n### Input\n\n```grid shape: 3x3\n",
    "The transformation of the grids is based on objectness, goal-directed priors, numbers and topology.",
    "Let us see if you can solve this simple Abstraction and Reasoning Challenge task, a user and an assistant",
]


@cache
def trained_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 500 tokens, digits apart, with a pad, a begin and two end tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    inner.decoder = decoders.ByteLevel()
    specials = ["<|im_start|>", "<pad>", "<s>", "</s>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        TEXTS * 20, trainers.BpeTrainer(vocab_size=500, special_tokens=specials, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )
