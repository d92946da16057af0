"""Micro-step decoding beside the base LM: the same base, the same data, the same number of further steps.

    python benchmarks/micro.py --base MODEL [--out out/micro] [--steps 1000] [--puzzles 48]
    python benchmarks/micro.py --toy
    python benchmarks/micro.py --count-segments 12

A base that is sure of most cells is trained on, plain or as a micro-step model in every variant. Held-out puzzles are
answered greedily in one view, one at a time: cells that are right (0 for a grid of another size or none) and how many
more than those of the plain model (paired bootstrap), puzzles solved, macro positions a prompt token, macro and micro
steps a grid, seconds (best of two), the model's own validation loss, and that of its base alone as a plain model, which
says what it forgot. Plain rows are answered by the engine `hf`, which drafts from the prompt by itself; those `without
drafts` take one token a step, and those `with drafts` get the test input as a draft, too. The stages at 1e-5 and 5e-5
differ from joint training in their rates as well; those at the rate of the base differ in the stages alone.

Every row is written to OUT/rows.json as soon as it is measured, with its commit, and is not made again. One that fails
is told, stops no other, and is tried again by the next call. OUT also gets table.md, and attention.png: what macro and
micro steps attend to.

`--toy` makes a base of its own and all rows in a few steps. `--count-segments` counts the segments that the shipped
model would make, without any training.

Expected: at equal decoding threshold a third of the positions and of the base's steps, at a loss of cells in every
variant, for the base must relearn what a position is; the learnt merger beats mean and last token; entropy and
confidence do not differ, and a window of 32 costs nothing; stage one at 1e-4 learns next to nothing in so few steps;
joint training at the rate of the base is best; LoRA's base has the least loss as a plain model; refined segments are
longer and no better. Plain decoding with drafts is faster than all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from airv import commit

from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.config.answer import GenerateConfig
from arc_kaggle.config.micro import BASE, MicroConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.config.train import TrainConfig
from arc_kaggle.config.tune import LoraConfig, OptimConfig
from arc_kaggle.engines.base import Completion, Engine
from arc_kaggle.engines.hf.engine import HFEngine, make_rows
from arc_kaggle.engines.hf.policy import Greedy
from arc_kaggle.errors import ArcKaggleError, DecodeError
from arc_kaggle.evaluation.model_folders import find_model_folders
from arc_kaggle.evaluation.statistics import mean_difference
from arc_kaggle.micro.engine import MicroEngine, StepCounts
from arc_kaggle.micro.folder import load_micro
from arc_kaggle.micro.segmentation import starts_of
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import write_atomically, write_json
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.grid import Grid, same_grid
from arc_kaggle.tasks.selection import select_tasks
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import TokenIds, tokenize
from arc_kaggle.training.examples import ExampleSource
from arc_kaggle.training.mixture import load_mixture
from arc_kaggle.training.session import train
from arc_kaggle.training.validation import Validation, make_validation, mean_of, summed

NEW = ("merger", "micro")
STOPS = (1.0, 0.98, 0.5, 0.0)
"""Early stop of the first micro-step model in decoding, beside its own 0.9: off at 0, one token a segment at 1."""
NEVER = Deadline.never()
Row = dict[str, Any]
Answer = Callable[[Request, TokenIds], Completion]
"""The answer to a request, for which there is a draft."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    base: Path
    out: Path
    steps: int
    puzzles: int
    rate: float
    data: tuple[str, ...]
    max_tokens: int
    threshold: float
    against: tuple[str, ...] = ("arc1:evaluation", "arc2:evaluation")

    @property
    def micro(self) -> MicroConfig:
        """The variant that the others differ from in one thing each."""
        return MicroConfig("entropy", threshold=self.threshold, most_tokens=8, stop=0.9)

    def training(self, name: str, **changes: Any) -> TrainConfig:
        """The training of a row."""
        sizes = {"tokens_per_batch": 2 * self.max_tokens, "max_tokens": self.max_tokens, "max_pairs": 4, "bucket": 32}
        fixed: Row = {"precision": "fp32", "growing_fraction": 0.0, "start": self.base}
        fixed |= {"drop_leaks": True, "against": self.against}
        saving = {"save_every": max(2, self.steps // 4), "validation_puzzles": self.puzzles, "keep_checkpoints": 1}
        chosen: dict[str, Any] = {**sizes, **fixed, **saving, "steps": self.steps, **changes}
        return TrainConfig(self.folder(name), self.data, first_max_tokens=self.max_tokens, **chosen)

    def folder(self, name: str) -> Path:
        return self.out / name.replace(" ", "-").replace(",", "")


def variants(options: Options) -> dict[str, Row]:
    """What is changed in the training of every row, by its name."""
    micro = options.micro
    joint: Row = {"micro": micro, "optim": OptimConfig(learning_rate=options.rate)}

    def staged(first: float, then: float, share: float = 0.5) -> Row:
        n_first = max(1, round(share * options.steps))
        stage = {"first_stage_steps": n_first, "first_stage_modules": NEW, "first_stage_learning_rate": first}
        return {"micro": micro, "optim": OptimConfig(learning_rate=then), **stage}

    return {
        "plain": {"optim": OptimConfig(learning_rate=options.rate)},
        "joint, entropy": joint,
        "joint, confidence": {**joint, "micro": replace(micro, segments="confidence", threshold=0.1)},
        "joint, entropy, window of 32": {**joint, "micro": replace(micro, window=32)},
        "joint, confidence, window of 32": {
            **joint,
            "micro": replace(micro, segments="confidence", threshold=0.1, window=32),
        },
        "joint, budget": {**joint, "micro": replace(micro, budget=True)},
        "joint, merger mean": {**joint, "micro": replace(micro, merger="mean")},
        "joint, merger last token": {**joint, "micro": replace(micro, merger="last")},
        "stage 1 alone 1e-4": staged(1e-4, 1e-4, share=1.0),
        "stage 1 1e-4, stage 2 1e-5": staged(1e-4, 1e-5),
        "stage 1 1e-4, stage 2 5e-5": staged(1e-4, 5e-5),
        "both stages at the rate of joint": staged(options.rate, options.rate),
        "joint, LoRA": {**joint, "weights": "lora", "lora": LoraConfig(rank=16, alpha=16)},
        "joint, refined segments": {**joint, "micro": replace(micro, reference=options.folder("joint, entropy"))},
    }


class Rows:
    """OUT/rows.json: what has been measured, with the settings that it belongs to."""

    def __init__(self, options: Options) -> None:
        self.path = options.out / "rows.json"
        (base,) = find_model_folders((options.base,))[:1]
        self.settings = {
            **{name: getattr(options, name) for name in ("steps", "puzzles", "rate", "max_tokens", "threshold")},
            "data": list(options.data),
            "base": base.digest[:16],
        }
        kept = json.loads(self.path.read_text()) if self.path.is_file() else {"settings": self.settings, "rows": {}}
        if kept["settings"] != self.settings:
            raise SystemExit(f"{self.path}: found {kept['settings']}, expected {self.settings}; take another --out")
        self.rows: dict[str, Row] = kept["rows"]
        self.failed: dict[str, str] = {}

    def make(self, name: str, measured: Callable[[], Row]) -> None:
        """Measure a row that is not there, and keep it. One that fails is told, and the others are made."""
        if name in self.rows:
            return
        try:
            self.rows[name] = {**measured(), "commit": commit()}
        except ArcKaggleError as error:
            self.failed[name] = str(error)
        write_json(self.path, {"settings": self.settings, "rows": self.rows, "failed": self.failed})
        told = self.failed.get(name) or {key: value for key, value in self.rows[name].items() if key != "by_puzzle"}
        print(f"{name}: {told}", flush=True)


# Measuring ------------------------------------------------------------------------------------------------------------


def validation_of(options: Options, model: LoadedModel) -> Validation:
    config = options.training("plain")
    return make_validation(ExampleSource(load_mixture(config), model.notation, config), model.pad_id)


def request_of(task: Task, model: LoadedModel, max_tokens: int) -> Request:
    generate = GenerateConfig(n_views=1, max_prompt_tokens=max_tokens, answer_headroom=1.0)
    return next(iter(make_requests(task, model.notation, generate, np.random.default_rng(0))))


def right_cells(model: LoadedModel, completion: Completion, answer: Grid) -> float:
    """Share of the answer's cells, 0 for none or another size."""
    try:
        ids = completion.ids[:-1] if completion.ended else completion.ids
        grid = model.notation.read(model.notation.tokenizer.decode(ids.tolist()))
    except DecodeError:
        return 0.0
    return 1.0 if same_grid(grid, answer) else float((grid == answer).mean()) if grid.shape == answer.shape else 0.0


def measure(model: LoadedModel, answer: Answer, tasks: Sequence[Task], max_tokens: int) -> Row:
    """Cells by puzzle, puzzles solved, and seconds an answer."""
    cells, seconds = {}, 0.0
    for task in tasks:
        request = request_of(task, model, max_tokens)
        draft = model.notation.completion_ids(task.test[0].input)
        begun = time.monotonic()
        completion = answer(request, draft)
        seconds += time.monotonic() - begun
        wanted = task.test[0].output
        assert wanted is not None, "validation puzzles have answers"
        cells[task.id] = right_cells(model, completion, wanted)
    solved = sum(share == 1.0 for share in cells.values())
    return {
        "cells": float(np.mean([*cells.values()])),
        "solved": solved,
        "seconds": seconds / len(tasks),
        "by_puzzle": cells,
    }


def answered_by(engine: Engine, drafted: bool = False) -> Answer:
    """An engine as it is, perhaps with the test input as a draft."""

    def answer(request: Request, draft: TokenIds) -> Completion:
        drafts = [[draft]] if drafted else None
        ((_, found),) = engine.generate([request.ids], [request.max_new_tokens], NEVER, drafts=drafts)
        return found

    return answer


def without_drafts(model: LoadedModel) -> Answer:
    """The engine `hf` one token a step, which it never is by itself."""
    engine = HFEngine(model)

    def answer(request: Request, draft: TokenIds) -> Completion:
        rows = make_rows([request.ids], [request.max_new_tokens], None)
        (row,) = engine._run(rows, Greedy(takes_drafts=False), NEVER, None)
        return row.done[0]

    return answer


PLAIN: dict[str, Callable[[LoadedModel], Answer]] = {
    "": lambda model: answered_by(HFEngine(model)),
    ", with drafts": lambda model: answered_by(HFEngine(model), drafted=True),
    ", without drafts": without_drafts,
}
"""How a plain model answers, by what is behind the name of its row."""


def plain_row(folder: Path, options: Options, answer: Callable[[LoadedModel], Answer]) -> Row:
    """The base LM, or what became of it; its steps are forward passes behind the prompt."""
    model = load_model(folder, "fp32", "cpu")
    validation = validation_of(options, model)
    tasks = [task for tasks in validation.puzzles.values() for task in tasks][: options.puzzles]
    calls = [0]
    model.network.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    rows = [measure(model, answer(model), tasks, options.max_tokens) for _ in range(2)]
    steps = calls[0] / (2 * len(tasks)) - 1
    loss = mean_of([summed(model, batches) for batches in validation.examples.values()])
    seconds = min(row["seconds"] for row in rows)
    facts = {"seconds": seconds, "positions_a_token": 1.0, "macro_steps": steps, "loss": loss, "base_loss": loss}
    return {**rows[0], **facts}


def micro_row(folder: Path, options: Options, stop: float | None = None) -> Row:
    """A micro-step model; `stop` in place of its own threshold of decoding."""
    model = micro_model(folder)
    network: Any = model.network
    if stop is not None:
        network.micro_config = replace(network.micro_config, stop=stop)
    validation = validation_of(options, model)
    tasks = [task for tasks in validation.puzzles.values() for task in tasks][: options.puzzles]
    engine = MicroEngine(model, counts=StepCounts())
    rows = [measure(model, answered_by(engine), tasks, options.max_tokens) for _ in range(2)]
    counts = engine.counts
    base = load_model(folder / BASE, "fp32", "cpu")
    examples = validation.examples.values()
    return {
        **rows[0],
        "seconds": min(row["seconds"] for row in rows),
        "positions_a_token": counts.prompt_positions / counts.prompt_tokens,
        "macro_steps": counts.macro_steps / (2 * len(tasks)),
        "micro_steps": counts.micro_steps / (2 * len(tasks)),
        "loss": mean_of([summed(model, batches) for batches in examples]),
        "base_loss": mean_of([summed(base, batches) for batches in examples]),
    }


def micro_model(folder: Path) -> LoadedModel:
    options = SolveConfig("unread", Path("unwritten"), model=folder, precision="fp32", device="cpu", recipe="none")
    return load_micro(folder, options)


def measure_all(options: Options) -> Rows:
    """Train and measure every row that is not there."""
    rows = Rows(options)
    for kind, answer in PLAIN.items():
        rows.make(f"base before{kind}", partial(plain_row, options.base, options, answer))
    for name, changes in variants(options).items():
        ways = {f"{name}{kind}": partial(plain_row, answer=answer) for kind, answer in PLAIN.items()}
        if name != "plain":
            ways = {name: micro_row}
        for stop in STOPS if name == "joint, entropy" else ():
            ways[f"{name}, stop {stop:g}"] = partial(micro_row, stop=stop)
        for way, measured in ways.items():
            rows.make(way, partial(trained_row, options, name, changes, measured))
    return rows


def trained_row(options: Options, name: str, changes: Row, measured: Callable[[Path, Options], Row]) -> Row:
    """Measure a variant, which is trained once."""
    train(options.training(name, **changes))
    return measured(options.folder(name), options)


SHOWN = {"solved": "", "seconds": ".3f", "positions_a_token": ".2f", "macro_steps": ".1f", "micro_steps": ".1f"}
LOSSES = {"loss": ".4f", "base_loss": ".4f"}


def table(rows: dict[str, Row]) -> Iterator[str]:
    """Lines of Markdown; differences are those of cells to the plain model that was trained for as many steps."""
    names = (
        "cells, %",
        "less plain, paired 95%",
        "solved",
        "s a grid",
        "positions a token",
        "macro steps",
        "micro steps",
    )
    yield f"| row | {' | '.join((*names, 'loss, nats', 'loss of its base'))} |"
    yield "|---" + "|--:" * (len(names) + 2) + "|"
    for name, row in rows.items():
        interval = ""
        if "plain" in rows:
            less = mean_difference(row["by_puzzle"], rows["plain"]["by_puzzle"], np.random.default_rng(0))
            interval = f"{100 * less.mean:+.1f} ({100 * less.low:+.1f}..{100 * less.high:+.1f})"
        shown = (format(row[key], form) if key in row else "" for key, form in {**SHOWN, **LOSSES}.items())
        yield f"| {name} | {100 * row['cells']:.1f} | {interval} | {' | '.join(shown)} |"


# Pictures -------------------------------------------------------------------------------------------------------------


def recorded_attention(network: Any) -> list[torch.Tensor]:
    """From now on a network's attention (batch, heads, queries, keys) of every layer and pass is put into this list."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask
    from transformers.models.llama.modeling_llama import eager_attention_forward

    seen: list[torch.Tensor] = []

    def attend(*values: Any, **given: Any) -> Any:
        output, weights = eager_attention_forward(*values, **given)
        seen.append(weights)
        return output, weights

    AttentionInterface.register("recorded", attend)
    AttentionMaskInterface.register("recorded", eager_mask)
    network.set_attn_implementation("recorded")
    return seen


def draw(folder: Path, options: Options, path: Path) -> None:
    """Attention of the last macro layer over a prompt, and of the micro decoder over its segments; means of heads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    model = micro_model(folder)
    network: Any = model.network
    task = next(task for tasks in validation_of(options, model).puzzles.values() for task in tasks)
    ids = torch.from_numpy(request_of(task, model, options.max_tokens).ids)[None]
    segments = network.segments_of(ids, [ids[0, -1:]])
    seen = recorded_attention(network.base)
    with torch.no_grad():
        embedded = network.get_input_embeddings()(ids)
        merged = network.merged(embedded, segments)
        mask = torch.ones(merged.shape[:2], dtype=torch.long)
        states = network.macro(merged, network.places(ids, segments), mask)
        macro = seen[-1][0].mean(0)
        lengths = (segments.table[0] >= 0).sum(-1)
        longest = max(1, int(lengths[1:].max()))
        at = (lengths[1:] == longest).nonzero().flatten() + 1  # those of the most frequent picture: as long as any
        tokens = segments.table[0, at, :longest]
        inner = embedded[0, tokens[:, :-1]]
        hidden = torch.cat([network.micro.norm_state(states[0, at - 1])[:, None], inner], dim=1)
        hidden = hidden + network.micro.places[: hidden.shape[1]]
        query, key, _ = network.micro.layers[0].heads(hidden)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        micro = scores.masked_fill(~causal, -torch.inf).softmax(-1).mean((0, 1))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2))
    titles = [
        f"macro step: {len(macro)} positions of {ids.shape[1]} tokens",
        f"micro step: {len(at)} segments of {longest}",
    ]
    for axis, values, title in zip(axes, (macro, micro), titles, strict=True):
        axis.imshow(values.sqrt().numpy(), cmap="magma", vmin=0, vmax=1)
        axis.set(title=title, xlabel="attended to", ylabel="position")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


# Counting -------------------------------------------------------------------------------------------------------------


COUNTED = [
    *(MicroConfig("entropy", threshold=nats) for nats in (0.1, 0.3, 1.0)),
    MicroConfig("entropy", threshold=0.3, window=32),
    MicroConfig("entropy", threshold=0.3, budget=True),
    *(MicroConfig("confidence", threshold=share) for share in (0.05, 0.1, 0.3)),
]


def count_segments(folder: Path, n_tasks: int) -> list[Row]:
    """Macro positions a token of prompts and of answers, by one model, for the shortest training tasks."""
    model = load_model(folder, "fp32", "cpu")
    rows = []
    for config in COUNTED:
        counts = np.zeros((2, 2))  # (prompt, answer) x (positions, tokens)
        for task in select_tasks(load_tasks("arc1:training"), f"shortest:{n_tasks}"):
            prompt = tokenize(query_prompt(next(task.queries), model.notation), model.tokenizer).ids
            answer = model.notation.completion_ids(task.test[0].output)
            ids = torch.from_numpy(np.concatenate([prompt, answer]))[None]
            starts = starts_of(model.network, ids, config, [torch.from_numpy(prompt[-1:])])[0].numpy()
            counts += [[starts[: len(prompt)].sum(), len(prompt)], [starts[len(prompt) :].sum(), len(answer)]]
        named = {key: getattr(config, key) for key in ("segments", "threshold", "window", "budget")}
        rows.append(
            {**named, "prompt": round(counts[0, 0] / counts[0, 1], 3), "answer": round(counts[1, 0] / counts[1, 1], 3)}
        )
    return rows


def toy_base(folder: Path) -> Path:
    """A base that is made in a minute, and answers nothing."""
    if not (folder / "config.json").is_file():
        sizes: Row = {"hidden_size": 32, "n_layers": 1, "steps": 40, "tokens_per_batch": 1024, "max_tokens": 256}
        fixed: Row = {"precision": "fp32", "validation_puzzles": 0, "bucket": 32, "drop_leaks": True}
        train(TrainConfig(folder, ("synth:0.1",), architecture="grid", first_max_tokens=256, **sizes, **fixed))
    return folder


def toy_options(out: Path, base: Path) -> Options:
    """Every row in two steps, on two puzzles; of so young a base no token is certain."""
    return Options(base, out, 2, 2, 1e-3, ("synth:0.1",), 256, 2.7)


def run(options: Options) -> int:
    """Make what is missing, then the table and the picture; 1 where a row has failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows = measure_all(options)
    lines = [*table(rows.rows)]
    write_atomically(options.out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps({"settings": rows.settings, "rows": rows.rows, "failed": rows.failed}))
    if "joint, entropy" in rows.rows:
        draw(options.folder("joint, entropy"), options, options.out / "attention.png")
    return int(bool(rows.failed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=None, help="model folder to go on from, a plain LM or a GridLM")
    parser.add_argument("--out", type=Path, default=Path("out/micro"))
    parser.add_argument("--steps", type=int, default=1000, help="further steps of every row")
    parser.add_argument("--puzzles", type=int, default=48, help="held-out puzzles that every row answers")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of the rows without stages")
    parser.add_argument("--data", nargs="*", default=["arc1:training", "synth:0.6=2"], help="as for `train`")
    parser.add_argument("--threshold", type=float, default=0.3, help="nats over which a token begins a segment")
    parser.add_argument("--max-tokens", type=int, default=512, help="longest example")
    parser.add_argument("--toy", action="store_true", help="a base of its own, two steps, two puzzles")
    parser.add_argument(
        "--count-segments", type=int, default=0, help="tasks on which segments are counted, and no more"
    )
    given = parser.parse_args()
    if given.count_segments:
        print(json.dumps(count_segments(given.base or BOX_FOLDER, given.count_segments)))
        return 0
    if given.toy:
        return run(toy_options(given.out / "toy", given.base or toy_base(given.out / "toy-base")))
    sizes = given.steps, given.puzzles, given.rate, tuple(given.data), given.max_tokens, given.threshold
    return run(Options(given.base or BOX_FOLDER, given.out, *sizes))


if __name__ == "__main__":
    sys.exit(main())
