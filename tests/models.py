"""Tiny models with random weights, in fp32, and the slow definitions that fast code is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arc_kaggle.budget import Deadline
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.model import SYMBOLS, LoadedModel, new_model
from arc_kaggle.tokens import TokenIds

VOCABULARY = len(SYMBOLS["minimal"])
LONGEST = 512

torch.set_num_threads(1)  # so small a model is slower on two


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
    """
    model = new_model(64, 2, seed)
    if kind != "llama":
        model = replace(model, network=NETWORKS[kind]().eval())
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(10)
    return model


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
