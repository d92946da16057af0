"""How threads of mathematics wait for each other, and how many there are: on an idle machine and beside busy processes.

    python benchmarks/threads.py --model FOLDER [--repeats 5] [--busy 3] [--tokens 20]

Each setting is a process of its own, for libgomp reads the environment as it is loaded. All of them live at once and
take turns, first on an otherwise idle machine and then beside `--busy` processes that never rest: 20 tokens of two
prompts, and forward and back of one training step. Prints a JSON object last: median seconds [idle, busy]; `idle`, the
ratio to the best setting there (aim: at most 1.03); `busy`, the ratio to the fair share (aim: at most 1.5), which is
the seconds of one thread on an idle machine, times (1 + busy processes) / cores; and whether the numbers were those of
one thread bit for bit. With `--busy 0` the idle machine alone is measured, and stands in both columns.

Expected on two cores with a model of 135M weights, seconds idle / beside three, by an earlier measurement by hand:
default 0.62 / 21, PASSIVE 0.83 / 4.1, a spin count of 30000 0.66 / 5.5, one thread 1.1 / 2.2. So no fixed setting meets
both aims; `follow`, which before each step takes as many threads as others leave cores free, should come to
0.62 / 2.3 and meet both. With edition 2 of the model in the box one thread is expected to be the best in both columns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SETTINGS: dict[str, Mapping[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"spin {count}": {"GOMP_SPINCOUNT": count} for count in ("1000", "30000", "100000")},
    "one thread": ONE,
    "follow": {"FOLLOW": "1"},
    "follow, spin 100000": {"FOLLOW": "1", "GOMP_SPINCOUNT": "100000"},
}
WORK = ("generate", "train")


# A child: one setting --------------------------------------------------------------------------------------------


def serve(options: argparse.Namespace) -> None:
    """Load the model; then for every line of stdin do both works once and print seconds and a digest of the answers."""
    import torch

    from arc_kaggle.models.loading import load_model
    from arc_kaggle.models.threads import follow_load

    step = partial(follow_load, torch.device("cpu")) if "FOLLOW" in os.environ else lambda: None
    model = load_model(options.model, "fp32", "cpu")
    ids = torch.randint(5, 200, (2, 256), generator=torch.Generator().manual_seed(0)) % len(model.tokenizer)
    print("ready", flush=True)
    for _ in sys.stdin:
        found: dict[str, Any] = {}
        for name, work in zip(WORK, (generate, train), strict=True):
            step()  # after a pause, such as the others' turns, a look takes 0.04 s: no step of a worker at work
            started = time.perf_counter()
            answer = work(model.network, ids, options.tokens, step)
            found[name] = time.perf_counter() - started
            found[f"{name} digest"] = hashlib.sha256(answer.numpy().tobytes()).hexdigest()
        print(json.dumps({**found, "threads": torch.get_num_threads()}), flush=True)


def generate(network: Any, ids: Any, n_tokens: int, step: Callable[[], None]) -> Any:
    """Log-probabilities (2, tokens, vocabulary) of greedy decoding with a KV cache."""
    import torch

    with torch.inference_mode():
        cache, rows, fed = None, [], ids
        for _ in range(n_tokens):
            step()
            done = network(input_ids=fed, past_key_values=cache, use_cache=True)
            cache, row = done.past_key_values, done.logits[:, -1:].log_softmax(dim=-1)
            rows.append(row)
            fed = row.argmax(dim=-1)
        return torch.cat(rows, dim=1)


def train(network: Any, ids: Any, n_tokens: int, step: Callable[[], None]) -> Any:
    """The gradient of the first layer's weights after one step forward and back; no weight is changed."""
    step()
    ids = ids[:, :96]
    network(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    found = next(parameter.grad for parameter in network.parameters() if parameter.grad is not None).clone()
    network.zero_grad()  # all settings live at once: none keeps gradients
    return found


# The parent ------------------------------------------------------------------------------------------------


def start(setting: Mapping[str, str], options: argparse.Namespace) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_", "KMP_"))}
    words = [sys.executable, __file__, "--child", "--model", str(options.model), "--tokens", str(options.tokens)]
    environment = {**kept, **setting}
    child = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "ready\n", f"no answer from a child under {dict(setting)}"
    return child


def once(child: subprocess.Popen[str]) -> dict[str, Any]:
    assert child.stdin and child.stdout
    child.stdin.write("go\n")
    child.stdin.flush()
    found: dict[str, Any] = json.loads(child.stdout.readline())
    return found


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Beside so many processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def rounds(children: Mapping[str, subprocess.Popen[str]], n_repeats: int) -> dict[str, list[dict[str, Any]]]:
    """The settings take turns; the first round warms up."""
    found = []
    for repeat in range(1 + n_repeats):
        found.append({name: once(child) for name, child in children.items()})
        print(f"round {repeat}: { {name: each['generate'] for name, each in found[-1].items()} }", file=sys.stderr)
    found = found[1:]
    return {name: [each[name] for each in found] for name in children}


def table(idle: Mapping[str, Any], beside: Mapping[str, Any], n_busy: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for work in WORK:
        alone = {name: median(each[work] for each in found) for name, found in idle.items()}
        crowded = {name: median(each[work] for each in found) for name, found in beside.items()}
        fair = alone["one thread"] * max(1.0, (1 + n_busy) / len(os.sched_getaffinity(0)))
        digest = idle["one thread"][0][f"{work} digest"]
        rows[work] = {
            name: {
                "seconds": [round(alone[name], 3), round(crowded[name], 3)],
                "idle": round(alone[name] / min(alone.values()), 3),
                "busy": round(crowded[name] / fair, 2),
                "threads": [found[-1]["threads"] for found in (idle[name], beside[name])],
                "same": all(each[f"{work} digest"] == digest for each in [*idle[name], *beside[name]]),
            }
            for name in alone
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="any but a GridLM, which is told its places")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--busy", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return serve(options)
    if "one thread" not in options.settings:
        parser.error("option settings: found no 'one thread', by which fair shares and equal numbers are told")
    children = {name: start(SETTINGS[name], options) for name in options.settings}
    idle = rounds(children, options.repeats)
    beside = idle
    if options.busy:
        with busy(options.busy):
            beside = rounds(children, options.repeats)
    for child in children.values():
        child.kill()
    from airv import commit

    facts = {
        "benchmark": "threads",
        "commit": commit(),
        "cores": len(os.sched_getaffinity(0)),
        "busy": options.busy,
        "model": options.model.name,
        "weights": sum(file.stat().st_size for file in options.model.glob("*.safetensors")),
        "settings": table(idle, beside, options.busy),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
