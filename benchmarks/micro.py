"""Micro-step decoding beside the base LM: the same small model, the same data, the same number of further steps.

    python benchmarks/micro.py [--out out/micro] [--steps 1000] [--base-steps 4000] [--puzzles 48]
    python benchmarks/micro.py --count-segments 12

A new model (96 x 4) is trained on easy synthetic rules; then it is trained on, plain or as a micro-step model in every
variant. Held-out puzzles are answered greedily in one view, one at a time: cells that are right (0 for a grid of
another size or none), puzzles solved, macro positions a prompt, decode steps an answer (macro and micro steps apart),
and seconds, best of two. The base needs its thousands of steps: one that is uncertain of everything has no segments.
The second form counts the segments that the shipped model would make, without any training. Prints JSON last, and
draws the attention of macro and micro steps into docs/micro_attention.png.

Expected: a third of the positions and of the base's steps at equal decoding threshold, at a loss of cells in every
variant, for the base must relearn what a position is; the learnt merger beats mean and last token; stage one at 1e-4
learns next to nothing in so few steps; joint training at the rate of the base is best. Drafts are faster than all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arc_kaggle.answering.requests import make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.errors import DecodeError
from arc_kaggle.micro.engine import MicroEngine, StepCounts
from arc_kaggle.micro.folder import load_micro
from arc_kaggle.micro.segmentation import cut, uncertainty
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.selection import select_tasks
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import tokenize
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.log import read_log
from arc_kaggle.training.mixture import load_mixture
from arc_kaggle.training.session import train
from arc_kaggle.training.validation import make_validation

MICRO = MicroConfig("entropy", threshold=0.3, most_tokens=8, stop=0.9)
RATE, NEW = 1e-3, ("merger", "micro")
NEVER = Deadline.never()


def config_of(out: Path, **options: Any) -> TrainConfig:
    sizes: dict[str, Any] = {"tokens_per_batch": 1024, "max_tokens": 512, "max_pairs": 4, "hidden_size": 96}
    fixed: dict[str, Any] = {"n_layers": 4, "precision": "fp32", "against": (), "growing_fraction": 0.0, "bucket": 32}
    return TrainConfig(out, ("synth:0.1",), first_max_tokens=512, **{**sizes, **fixed, **options})


def variants(base: Path, out: Path, steps: int) -> dict[str, dict[str, Any]]:
    """The options of every training, by the name of its row."""
    joint = {"micro": MICRO, "optim": OptimConfig(learning_rate=RATE)}

    def staged(first: float, then: float, share: float = 0.5) -> dict[str, Any]:
        stage = {
            "first_stage_steps": round(share * steps),
            "first_stage_modules": NEW,
            "first_stage_learning_rate": first,
        }
        return {"micro": MICRO, "optim": OptimConfig(learning_rate=then), **stage}

    return {
        "plain": {"optim": OptimConfig(learning_rate=RATE)},
        "micro": joint,
        "confidence": {**joint, "micro": replace(MICRO, segments="confidence", threshold=0.1)},
        "window of 32": {**joint, "micro": replace(MICRO, window=32)},
        "budget": {**joint, "micro": replace(MICRO, budget=True)},
        "mean": {**joint, "micro": replace(MICRO, merger="mean")},
        "last token": {**joint, "micro": replace(MICRO, merger="last")},
        "stage 1 alone, 1e-4": staged(1e-4, 1e-4, share=1 - 1 / steps),
        "stage 1 1e-4, stage 2 1e-5": staged(1e-4, 1e-5),
        "stage 1 1e-4, stage 2 5e-5": staged(1e-4, 5e-5),
        "stage 1 1e-3, stage 2 1e-3": staged(RATE, RATE),
        "LoRA": {**joint, "weights": "lora", "lora": LoraConfig(rank=16, alpha=16)},
        "refined": {**joint, "micro": replace(MICRO, reference=out / "micro")},
    }


def puzzles_of(config: TrainConfig, model: LoadedModel) -> list[Task]:
    validation = make_validation(ExampleSource(load_mixture(config), model.notation, config), model.pad_id)
    return [task for tasks in validation.puzzles.values() for task in tasks]


Ask = Callable[[np.ndarray, np.ndarray], Completion]


def measure(model: LoadedModel, tasks: Sequence[Task], ask: Ask, steps: Callable[[], int]) -> dict[str, float]:
    """Cells, puzzles, decode steps and seconds an answer."""
    generate = GenerateConfig(n_views=1, max_prompt_tokens=512, answer_headroom=1.0)
    cells, solved, seconds, before = [], [], 0.0, steps()
    for task in tasks:
        (request,) = make_requests(task, model.notation, generate, np.random.default_rng(0))
        draft = model.notation.completion_ids(task.test[0].input)
        begun = time.monotonic()
        completion = ask(request.ids, draft)
        seconds += time.monotonic() - begun
        answer = task.test[0].output
        assert answer is not None
        try:
            grid = model.notation.read(model.notation.tokenizer.decode(completion.ids.tolist()))
        except DecodeError:
            grid = np.zeros((0, 0))
        right = grid == answer if grid.shape == answer.shape else np.zeros(answer.shape, bool)
        cells.append(float(right.mean()))
        solved.append(bool(right.all()))
    n = len(tasks)
    return {"cells": np.mean(cells), "solved": sum(solved), "steps": (steps() - before) / n, "seconds": seconds / n}


def ask_by(engine: Engine, drafted: bool = False) -> Ask:
    def ask(prompt: np.ndarray, draft: np.ndarray) -> Completion:
        drafts = [[draft]] if drafted else None
        ((_, completion),) = engine.generate([prompt], [120], NEVER, drafts=drafts)
        return completion

    return ask


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(float(value), 4) for key, value in row.items()}


def plain_rows(folder: Path, tasks: Sequence[Task], name: str) -> dict[str, Any]:
    """The base LM, without and with the test input as a draft."""
    model = load_model(folder, "fp32", "cpu")
    calls = [0]
    model.network.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    rows = {}
    for drafted, label in ((False, name), (True, f"{name}, drafts")):
        row = measure(model, tasks, ask_by(HFEngine(model), drafted), lambda: calls[0])
        again = measure(model, tasks, ask_by(HFEngine(model), drafted), lambda: calls[0])
        rows[label] = rounded({**row, "seconds": min(row["seconds"], again["seconds"]), "steps": row["steps"] - 1})
    return rows


def micro_row(folder: Path, tasks: Sequence[Task], stop: float | None = None) -> dict[str, Any]:
    """A micro-step model; `stop` in place of its own threshold of decoding."""
    options = SolveConfig("unread", Path("unwritten"), model=folder, precision="fp32", device="cpu", recipe="none")
    model = load_micro(folder, options)
    network: Any = model.network
    if stop is not None:
        network.micro_config = replace(network.micro_config, stop=stop)
    found = []
    for _ in range(2):
        engine = MicroEngine(model, counts=StepCounts())
        row = measure(model, tasks, ask_by(engine), lambda: engine.counts.macro_steps)  # noqa: B023
        counts = engine.counts
        row["micro_steps"] = counts.micro_steps / len(tasks)
        row["positions_a_token"] = counts.prompt_positions / counts.prompt_tokens
        found.append(row)
    return rounded({**found[0], "seconds": min(row["seconds"] for row in found)})


def draw(folder: Path, task: Task, path: Path) -> None:
    """Attention of the last macro layer over a prompt, and of the micro decoder over a segment; mean of heads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    options = SolveConfig("unread", Path("unwritten"), model=folder, precision="fp32", device="cpu", recipe="none")
    model = load_micro(folder, options)
    network: Any = model.network
    generate = GenerateConfig(n_views=1, max_prompt_tokens=512, answer_headroom=1.0)
    (request,) = make_requests(task, model.notation, generate, np.random.default_rng(0))
    ids = torch.from_numpy(request.ids)[None]
    segments = network.segments_of(ids)
    network.base.set_attn_implementation("eager")
    with torch.no_grad():
        embedded = network.get_input_embeddings()(ids)
        merged = network.merged(embedded, segments)
        mask = torch.ones(merged.shape[:2], dtype=torch.long)
        given = {"inputs_embeds": merged, "position_ids": segments.last, "attention_mask": mask}
        output = network.base.get_decoder()(**given, output_attentions=True)
        macro = output.attentions[-1][0].mean(0)
        at = (segments.table[0, 1:, -1] >= 0).nonzero().flatten() + 1  # the longest segments
        tokens = segments.table[0, at]
        states = network.micro.norm_state(output.last_hidden_state[0, at - 1])[:, None]
        hidden = torch.cat([states, embedded[0, tokens[:, :-1]]], dim=1) + network.micro.places[: tokens.shape[1]]
        query, key, _ = network.micro.layers[0].heads(hidden)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        micro = scores.masked_fill(~causal, -torch.inf).softmax(-1).mean((0, 1))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2))
    titles = [f"macro step: {len(macro)} positions of {ids.shape[1]} tokens", f"micro step: {len(at)} longest segments"]
    for axis, values, title in zip(axes, (macro, micro), titles, strict=True):
        axis.imshow(values.sqrt(), cmap="magma")
        axis.set(title=title, xlabel="attended to", ylabel="position")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


COUNTED = [
    *(MicroConfig("entropy", threshold=nats) for nats in (0.1, 0.3, 1.0)),
    MicroConfig("entropy", threshold=0.3, window=32),
    MicroConfig("entropy", threshold=0.3, budget=True),
    *(MicroConfig("confidence", threshold=share) for share in (0.05, 0.1, 0.3)),
]


def count_segments(n_tasks: int) -> list[dict[str, Any]]:
    """Macro positions a token of prompts and of answers, by the model that ships, for the shortest training tasks."""
    model = load_model(BOX_FOLDER, "fp32", "cpu")
    rows = []
    for config in COUNTED:
        counts = np.zeros((2, 2))  # (prompt, answer) x (positions, tokens)
        for task in select_tasks(load_tasks("arc1:training"), f"shortest:{n_tasks}"):
            prompt = tokenize(query_prompt(next(task.queries), model.notation), model.tokenizer).ids
            answer = model.notation.completion_ids(task.test[0].output)
            ids = torch.from_numpy(np.concatenate([prompt, answer]))[None]
            forced = torch.zeros_like(ids, dtype=torch.bool)
            forced[0, len(prompt)] = True
            starts = cut(uncertainty(model.network, ids, config), config, forced)[0].numpy()
            counts += [[starts[: len(prompt)].sum(), len(prompt)], [starts[len(prompt) :].sum(), len(answer)]]
        named = {key: getattr(config, key) for key in ("segments", "threshold", "window", "budget")}
        rows.append(
            {**named, "prompt": round(counts[0, 0] / counts[0, 1], 3), "answer": round(counts[1, 0] / counts[1, 1], 3)}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/micro"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--base-steps", type=int, default=4000)
    parser.add_argument("--puzzles", type=int, default=48)
    parser.add_argument("--only", nargs="*", default=None, help="variants to train now; all are measured then")
    parser.add_argument(
        "--count-segments", type=int, default=0, help="tasks on which segments are counted, and no more"
    )
    options = parser.parse_args()
    if options.count_segments:
        return print(json.dumps(count_segments(options.count_segments)))
    base = options.out / "base"
    rate = OptimConfig(learning_rate=2e-3, warmup_fraction=0.03)
    quiet = {"save_every": 10**6, "validation_puzzles": options.puzzles}
    if not (base / "config.json").exists():
        train(config_of(base, steps=options.base_steps, optim=rate, **quiet))
    found = variants(base, options.out, options.steps)
    for name, changes in found.items():
        folder = options.out / name.replace(" ", "-")
        if (options.only is None or name in options.only) and not (folder / "arc_kaggle.json").exists():
            train(config_of(folder, start=base, steps=options.steps, **changes, **quiet))
    model = load_model(base, "fp32", "cpu")
    tasks = puzzles_of(config_of(base, steps=1, **quiet), model)[: options.puzzles]
    rows: dict[str, Any] = plain_rows(base, tasks, "base before")
    for name in found:
        folder = options.out / name.replace(" ", "-")
        if not (folder / "arc_kaggle.json").exists():
            continue
        loss = [row["validation_loss"] for row in read_log(folder / "log.jsonl") if "validation_loss" in row][-1]
        if name == "plain":
            rows |= plain_rows(folder, tasks, name)
        else:
            rows[name] = micro_row(folder, tasks)
        rows[name]["loss"] = round(loss, 4)
        if name == "micro":
            rows |= {f"micro, stop {stop:g}": micro_row(folder, tasks, stop) for stop in (1.0, 0.98, 0.5, 0.0)}
            draw(folder, tasks[0], Path("docs/micro_attention.png"))
    print(json.dumps({"puzzles": len(tasks), "steps": options.steps, "base_steps": options.base_steps, "rows": rows}))


if __name__ == "__main__":
    main()
