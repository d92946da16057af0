"""The least seconds that a machine needs for answers, scores and training steps: products and bytes by formulas.

    python benchmarks/roofline.py [--device cuda] [--size 8192] [--megabytes 4096]

prints the rates of a device as a JSON object: of a large matrix product and of a large copy.

Each forward pass multiplies every token with every weight, reads all weights once, and reads the KV cache; it takes at
least as long as its products at the machine's rate of products, and as its bytes at its rate of copies, whichever is
longer (Williams et al. 2009, the roofline model). Passes are counted as few as there can be: prompts in one, a decode
step for each token of the longest answer. What a way takes over this is its distance to the roofline.

Activations, norms, sampling and the beginnings that candidates share with each other are left out, so that the least
is less than any program can reach.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from arc_kaggle.models.memory_formulas import Shape

WEIGHT_PASSES = {"lora": 2, "all": 8}
"""Times that a training step moves the trained model's weights: forward and backward; where all are trained, their
gradients are written and read, and AdamW reads and writes weights and two moments."""
PRODUCTS = {"lora": 2, "all": 3}
"""Products of a training step in forward passes: those of the weights' own gradients are not made for a frozen base."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Rates of a machine, as measured on it."""

    flops: float
    """Of a large matrix product, a second."""
    bytes: float
    """Read and written by a large copy, a second."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass, or a training step, computes and moves at least."""

    flops: float
    bytes: float

    def seconds(self, peaks: Peaks) -> float:
        return max(self.flops / peaks.flops, self.bytes / peaks.bytes)


def least_seconds(passes: Iterable[Pass], peaks: Peaks) -> float:
    return sum(each.seconds(peaks) for each in passes)


def n_linear(shape: Shape) -> int:
    """Weights of the layers' matrices."""
    return sum(
        n_rows * width
        for path, (n_rows, width) in shape.matrices.items()
        if not path.rpartition(".")[2].startswith(("embed", "lm_head"))
    )


def forward(shape: Shape, n_tokens: int, n_seen: float, n_logits: int, itemsize: int, n_cached: int = 0) -> Pass:
    """A pass over tokens that look at `n_seen` tokens in all, of which `n_cached` are read from the KV cache."""
    head = shape.hidden * shape.n_tokens
    attention = 4 * shape.n_layers * shape.n_heads * shape.head_size * n_seen
    weights = n_linear(shape) + (head if n_logits else 0)
    moved = itemsize * weights + (n_tokens + n_cached) * shape.cache_bytes(itemsize)
    return Pass(2 * n_linear(shape) * n_tokens + 2 * head * n_logits + attention, moved)


def causal(lengths: Iterable[int]) -> float:
    """Tokens seen in all by the tokens of some texts."""
    return sum(length * (length + 1) / 2 for length in lengths)


def answers(shape: Shape, prompts: Sequence[int], answered: Sequence[int], itemsize: int) -> Iterator[Pass]:
    """Greedy answers, by the lengths of prompts and answers: one prefill, then the steps."""
    yield forward(shape, sum(prompts), causal(prompts), 0, itemsize)
    for step in range(max(answered, default=0)):
        seen = [prompt + step for prompt, n in zip(prompts, answered, strict=True) if n > step]
        yield forward(shape, len(seen), sum(seen), len(seen), itemsize, sum(seen))


def scores(shape: Shape, prompts: Sequence[int], trees: Sequence[int], itemsize: int) -> Iterator[Pass]:
    """Candidates behind their prompts, each distinct beginning once: `trees` are their tokens by prompt."""
    seen = causal(prompts) + sum(prompt * tree for prompt, tree in zip(prompts, trees, strict=True))
    yield forward(shape, sum(prompts) + sum(trees), seen, sum(trees), itemsize)


def training(shape: Shape, lengths: Sequence[int], n_labels: int, weights: str, itemsize: int) -> Pass:
    """A training step on examples of such lengths; `weights` is lora or all."""
    once = forward(shape, sum(lengths), causal(lengths), n_labels, itemsize)
    held = itemsize * (n_linear(shape) + shape.hidden * shape.n_tokens)
    return Pass(PRODUCTS[weights] * once.flops, WEIGHT_PASSES[weights] * held)


def measure_peaks(device: str, size: int, megabytes: int) -> dict[str, float]:
    """Rates of products of each precision, and of copies, of a device: `fp32`, `bf16`, `fp16` and `bytes`, a second."""
    import torch

    target = torch.device(device)

    def best(work: Callable[[], object], repeats: int = 10) -> float:
        """Least seconds of a call, after one that does not count."""
        seconds = []
        for _ in range(1 + repeats):
            if target.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            work()
            if target.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    peaks = {}
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        a, b = (torch.randn(size, size, device=target).to(dtype) for _ in range(2))  # zeros would be faster
        peaks[name] = 2 * size**3 / best(lambda a=a, b=b: a @ b)
    source = torch.randn(megabytes * 2**18, device=target)
    to = torch.empty_like(source)
    return {**peaks, "bytes": 2 * source.nbytes / best(lambda: to.copy_(source))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the matrices of a product")
    parser.add_argument("--megabytes", type=int, default=4096, help="of a copy")
    options = parser.parse_args()
    import torch

    on_gpu = torch.device(options.device).type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores of {platform.machine()}"
    print(json.dumps({"device": name, "peaks": measure_peaks(options.device, options.size, options.megabytes)}))


if __name__ == "__main__":
    main()
