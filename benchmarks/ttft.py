"""Test-time fine-tuning: samples a second against trl's SFTTrainer, and what a task costs beside its steps.

    python benchmarks/ttft.py [--tasks arc1:training] [--select ID,ID] [--steps 16] [--repeats 3] [--model FOLDER] ...

The model is any folder of a causal language model, such as `.data/real-model` (`make real-model`) or a GridLM; its card
says how tasks are put to it, and `--prompt` and `--encoder` say otherwise, as for `solve`.

The peer is not installed with the package: `pip install trl==1.13.0 datasets==4.8.5` into an environment of its own
that also holds the package. (From 1.14 on trl's loss is a Triton kernel, which no CPU runs; on a GPU take the newest.)
Without it our side alone is timed.

Row 4: both train on the same examples in the same order, with the same labels, adapter and optimizer, on a model each;
losses are side by side in the output. All ways take turns on a task; seconds are summed over tasks, and the median of
the repeats counts. The ceiling is the matrix products of these steps alone, timed by themselves.
Row 5: seconds until a task can begin, in a new process, after a reload of the model, after a reset; and what saving and
loading a task's weights takes. The ceiling of row 5 is what was asked for: a reset under 0.2 s.
Prints a JSON object last; `ratios` is its table: row -> ours, peer, ratio, ceiling. `--rows` and `--weights` choose
rows, and with `--progress` the object is printed after each task, with what is known by then.

Expected, written down before the first run, two cores and edition 2 of the model in the box: LoRA 1.5x, for the peer
computes the head in chunks but for all labels as well, and has a mask, hooks and logging beside; all weights 1.5x.
Reset 2 ms, reload 0.2 s, a new process 6 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from airv import commit, hardware
from torch import nn
from transformers import PrinterCallback

from arc_kaggle import Task, load_tasks, recipe_of
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.tune import RECIPES, OptimConfig, TuneConfig
from arc_kaggle.models.loading import LoadedModel, load_model, load_tokenizer, pick_preset
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.tokens import NOT_TRAINED, Example
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import PADDED, InProcessTuner

HAS_PEER = find_spec("trl") is not None and find_spec("datasets") is not None
MISSING = "found no package trl, so only our side is timed; pip install trl==1.13.0 datasets==4.8.5"
NEW_PROCESS = """
import sys
from arc_kaggle.config.tune import RECIPES
from arc_kaggle.models.loading import load_model
from arc_kaggle.tuning.tuner import InProcessTuner
InProcessTuner(load_model(*sys.argv[1:], all_trained=True), RECIPES["box"])
"""

LORA_OPTIM = OptimConfig(learning_rate=1e-3, schedule="linear", warmup_fraction=0.125)


def asked(options: argparse.Namespace) -> tuple[str, str, str, str, str]:
    """What `load_model` takes."""
    return str(options.model), options.precision, options.device, options.prompt, options.encoder


def notation_of(options: argparse.Namespace) -> Notation:
    """How tasks are put to the model; its weights are not read."""
    tokenizer = load_tokenizer(options.model)
    return pick_preset(options.model, tokenizer, options.prompt, options.encoder).notation(tokenizer)


class Ours:
    """The loop of `tuner.py`."""

    def __init__(self, options: argparse.Namespace, config: TuneConfig) -> None:
        self.model = load_model(*asked(options), all_trained=config.weights == "all")
        self.tuner, self.config = InProcessTuner(self.model, config), config

    def __call__(self, examples: list[Example]) -> tuple[float, list[float]]:
        self.tuner.weights.reset(0)
        started, losses = time.perf_counter(), list[float]()
        self.tuner._train(cycle(examples), losses, self.config, Deadline.never())
        return time.perf_counter() - started, losses


class Theirs:
    """trl's SFTTrainer on a peft model, or on all weights. Its settings are ours, else its best."""

    def __init__(self, options: argparse.Namespace, config: TuneConfig, loss: str) -> None:
        self.options, self.config, self.loss = options, config, loss

    def __call__(self, examples: list[Example]) -> tuple[float, list[float]]:
        """On a model of its own, for every trainer wraps a model once more."""
        model = load_model(*asked(self.options), all_trained=self.config.weights == "all")
        weights = InProcessTuner(model, self.config).weights
        weights.reset(0)
        network = weights.peft_model if isinstance(weights, LoraAdapter) else model.network
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(model, network, examples, folder)
            started = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - started
        return seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row]

    def _trainer(self, model: LoadedModel, network: Any, examples: list[Example], folder: str) -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        config, optim = self.config, self.config.optim
        rows = [{"input_ids": each.ids.tolist(), "labels": each.labels.tolist()} for each in examples]
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=config.batch_size,
            max_steps=config.steps,
            learning_rate=optim.learning_rate,
            lr_scheduler_type=optim.schedule,
            warmup_steps=round(optim.warmup_fraction * config.steps),
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            adam_beta1=0.9,
            adam_beta2=0.95,
            optim="adamw_torch_fused",
            bf16=torch.bfloat16 in (model.autocast, model.network.dtype),
            fp16=torch.float16 in (model.autocast, model.network.dtype),
            use_cpu=model.device.type == "cpu",
            loss_type=self.loss,
            max_length=None,
            pad_to_multiple_of=PADDED,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            gradient_checkpointing=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        dataset = Dataset.from_list(rows)
        trainer = SFTTrainer(network, args=arguments, train_dataset=dataset, processing_class=model.tokenizer)
        trainer.remove_callback(PrinterCallback)
        return trainer


def ways(options: argparse.Namespace) -> dict[str, Ours | Theirs]:
    """Row 4: every way by its name."""
    common = {"steps": options.steps, "batch_size": options.batch_size}
    box = recipe_of(options.model)
    lora = replace(RECIPES["lora"], **common, max_tokens=box.max_tokens, optim=LORA_OPTIM)
    in_adamw = replace(RECIPES["box"].optim, matrices="adamw")  # the peer has no Muon
    whole = replace(RECIPES["box"], **common, tokens_per_step=None, optim=in_adamw)
    found: dict[str, Ours | Theirs] = {}
    for name, config in {"lora": lora, "all weights": whole}.items():
        if name.split()[0] in options.weights:
            found[name] = Ours(options, config)
            if HAS_PEER:
                found[f"{name}, peer"] = Theirs(options, config, options.peer_loss)
    return found


@dataclass
class Training:
    """Row 4: what has been measured of it so far."""

    repeats: int
    n_samples: int = 0
    product_seconds: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of every way, by repeat."""
    losses: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float]:
        """Samples a second of every way."""
        return {name: self.n_samples / median(each) for name, each in self.seconds.items()}

    @property
    def ceiling(self) -> float:
        """Samples a second of the matrix products alone."""
        return self.n_samples / self.product_seconds if self.n_samples else 0.0


def measure_training(options: argparse.Namespace) -> Iterator[Training]:
    """Row 4 after each task."""
    tried, row, notation = ways(options), Training(options.repeats), notation_of(options)
    ours = next(way for way in tried.values() if isinstance(way, Ours))
    for task in load_tasks(options.tasks, options.select):
        examples = draw(task, ours.config, notation, options)
        found = {}
        for repeat in range(-1, options.repeats):  # the first of all warms up and does not count
            for name, way in tried.items():
                taken, found[name] = way(examples)
                if repeat >= 0:
                    row.seconds.setdefault(name, [0.0] * options.repeats)[repeat] += taken
        row.n_samples += len(examples)
        row.sizes[task.id] = {
            "mean_tokens": round(float(np.mean([len(each.ids) for each in examples])), 1),
            "mean_labels": round(float(np.mean([(each.labels != NOT_TRAINED).sum() for each in examples])), 1),
        }
        row.losses[task.id] = {name: [round(each[0], 4), round(each[-1], 4)] for name, each in found.items()}
        row.losses[task.id] |= {f"{name}, most apart": apart(found, name) for name in found if f"{name}, peer" in found}
        row.product_seconds += product_seconds(ours.model, examples, options.batch_size)
        print(f"{task.id}: {row.sizes[task.id]}, losses {row.losses[task.id]}", file=sys.stderr)
        yield row


def apart(found: dict[str, list[float]], name: str) -> float:
    """Largest difference in nats between our loss and the peer's, over all steps."""
    return round(max(abs(a - b) for a, b in zip(found[name], found[f"{name}, peer"], strict=True)), 4)


def draw(task: Task, config: TuneConfig, notation: Notation, options: argparse.Namespace) -> list[Example]:
    examples = tuning_examples(task, notation, config, task_rng(task, 0, "tune"))
    return list(islice(examples, options.steps * options.batch_size))


def product_seconds(model: LoadedModel, examples: list[Example], batch_size: int) -> float:
    """Of the matrix products of training on the examples once: layers, attention, and a head where labels are."""
    network: Any = model.network
    n_tokens = round(float(np.mean([len(each.ids) for each in examples])))
    n_labels = round(batch_size * float(np.mean([(each.labels != NOT_TRAINED).sum() for each in examples])))
    dtype = model.autocast or network.dtype
    head = network.get_output_embeddings()
    shapes = [
        (n_labels if module is head else batch_size * n_tokens, module.in_features, module.out_features)
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in path
    ]
    n_heads = network.config.num_attention_heads
    size = network.config.hidden_size // n_heads
    square = batch_size * n_heads, n_tokens // 2, n_tokens, size  # half of it lies behind the causal mask
    n_layers = network.config.num_hidden_layers
    steps = len(examples) / batch_size
    return steps * (sum(_linear(*shape, dtype, model) for shape in shapes) + n_layers * _square(*square, dtype, model))


def _linear(n: int, n_in: int, n_out: int, dtype: torch.dtype, model: LoadedModel) -> float:
    x, w, g = (
        torch.randn(*shape, device=model.device, dtype=dtype) for shape in ((n, n_in), (n_out, n_in), (n, n_out))
    )
    return timed(lambda: (x @ w.T, g @ w, g.T @ x))


def _square(n: int, rows: int, columns: int, size: int, dtype: torch.dtype, model: LoadedModel) -> float:
    """Two products forward, four backward: no weight is computed twice."""
    a, b, c = (
        torch.randn(n, *shape, device=model.device, dtype=dtype)
        for shape in ((rows, size), (columns, size), (rows, columns))
    )
    return timed(lambda: (a @ b.mT, c @ b, a @ b.mT, c @ b, c.mT @ a, c.mT @ a))


def timed(what: Callable[[], Any], repeats: int = 7) -> float:
    """Median seconds, after one that does not count."""
    seconds = []
    for _ in range(1 + repeats):
        wait()
        started = time.perf_counter()
        what()
        wait()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_overhead(options: argparse.Namespace) -> dict[str, float]:
    """Row 5: median seconds until a task can begin, and of its weights' way to the disk and back."""

    def reload() -> None:
        InProcessTuner(load_model(*asked(options), all_trained=True), RECIPES["box"])

    def new_process() -> None:
        subprocess.run([sys.executable, "-c", NEW_PROCESS, *asked(options)], check=True, capture_output=True)

    tuners, notation = [], notation_of(options)
    for recipe in ("box", "lora"):
        ours = Ours(options, replace(RECIPES[recipe], steps=1, tokens_per_step=None))
        ours(draw(load_tasks(options.tasks, options.select)[0], ours.config, notation, options))
        tuners.append(ours.tuner)
    whole, lora = tuners
    with tempfile.TemporaryDirectory() as folder:
        return {
            "new process": timed(new_process, 2),
            "reload": timed(reload, 3),
            "save of all weights": timed(lambda: whole.save(Path(folder) / "whole"), 3),
            "load of all weights": timed(lambda: whole.load(Path(folder) / "whole"), 3),
            "save of an adapter": timed(lambda: lora.save(Path(folder) / "lora"), 3),
            "load of an adapter": timed(lambda: lora.load(Path(folder) / "lora"), 3),
            "reset of all weights": timed(whole.reset),
            "reset of an adapter": timed(lora.reset),
        }


def ratio(ours: float, peer: float, ceiling: float, of: float) -> dict[str, float]:
    return {"ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(of, 2), "ceiling": round(ceiling, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BOX_FOLDER)
    parser.add_argument("--tasks", default="arc1:training")
    parser.add_argument("--select", default="0520fde7,952a094c")
    parser.add_argument("--steps", type=int, default=16, help="a run")
    parser.add_argument("--batch-size", type=int, default=2, help="examples a step")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-loss", default="chunked_nll", choices=["chunked_nll", "nll"])
    parser.add_argument("--prompt", default="auto", help="as for solve")
    parser.add_argument("--encoder", default="", help="as for solve")
    parser.add_argument("--rows", type=int, nargs="*", default=[4, 5], choices=[4, 5])
    parser.add_argument("--weights", nargs="*", default=["lora", "all"], choices=["lora", "all"], help="of row 4")
    parser.add_argument("--progress", action="store_true", help="print the JSON object after every task")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    if not HAS_PEER:
        print(MISSING, file=sys.stderr)
    row_4 = Training(options.repeats)
    for row_4 in measure_training(options) if 4 in options.rows else ():
        if options.progress:
            print(json.dumps(facts_of(row_4, {}, options)), flush=True)
    overhead = measure_overhead(options) if 5 in options.rows else {}
    print(json.dumps(facts_of(row_4, overhead, options)))


def facts_of(row: Training, overhead: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    rates = row.rates
    row_4 = {
        f"4 {name}": ratio(rates[name], rates[peer], row.ceiling / rates[peer], rates[name] / rates[peer])
        for name in ("lora", "all weights")
        if name in rates and (peer := f"{name}, peer") in rates
    }
    row_5 = {
        f"5 {reset} against {other}": ratio(
            overhead[reset], overhead[other], overhead[other] / 0.2, overhead[other] / overhead[reset]
        )
        for reset in ("reset of all weights", "reset of an adapter")
        for other in ("new process", "reload")
        if overhead
    }
    return {
        "benchmark": "ttft",
        "arguments": sys.argv[1:],
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft", "trl") if find_spec(name)},
        },
        "hardware": hardware(options),
        "examples": row.sizes,
        "batch_size": options.batch_size,
        "steps": options.steps,
        "losses_first_and_last": row.losses,
        "samples_per_second": {name: round(each, 2) for name, each in {**rates, "products alone": row.ceiling}.items()},
        "overhead_seconds": {name: round(each, 4) for name, each in overhead.items()},
        "ratios": {**row_4, **row_5},
    }


if __name__ == "__main__":
    main()
