"""Does a way of computing give what fp32 gives on the same machine? Answers, searches, scores and fine-tuning.

    python benchmarks/gpu_checks.py WAY [--device cuda] [--peaks JSON] [--tasks N] [--views N] [--tokens N] [--steps N]

Three models with random weights, so large that answers differ and end: of the shape of Llama, of Qwen2, and a GridLM.
Prints a JSON object for each check, as soon as it is done; a check that fails says why, and the others go on.

greedy   Greedy answers; where texts differ, by how many nats fp32 prefers its own token (the margin).
search   Completions above a threshold; the largest difference of a likelihood in nats, and for a completion that only
         one of the two found how far it lies from the threshold.
scores   Likelihoods of candidates, beside one full forward pass for each; the largest difference in nats.
lora, all   Losses of fine-tuning, step by step; the largest difference in nats.

`equal` says that every difference stays within the bound of the way, which is told beside it: about as much as rounding
may turn over in models as lively as these. In fp32 the reference is a CPU. In 4 bits it is fp32 with the weights that
the 4 bits stand for. On a CPU weights are held in the precision of the way, as a GPU holds them. Expected: fp32 and
compiled fp32 equal in every text; fp16 in all but one text in 50, bf16 in all but one in 10, both with margins well
within the bound.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
import transformers
from airv import NEVER, in_order, margin, n_tokens_once
from roofline import Pass, Peaks, answers, least_seconds, scores, training
from shapes import make_folder

from arc_kaggle import Task, load_tasks
from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.config.answer import GenerateConfig, Search
from arc_kaggle.config.engines import HFConfig
from arc_kaggle.config.tune import RECIPES, OptimConfig, TuneConfig
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.models.loading import DTYPES, LoadedModel, load_model, save_model
from arc_kaggle.models.memory_formulas import Shape, read_shape
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.text.tokens import NOT_TRAINED, Example, TokenIds
from arc_kaggle.tuning.examples import tuning_examples
from arc_kaggle.tuning.tunable_weights import LoraAdapter
from arc_kaggle.tuning.tuner import InProcessTuner

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from models import lively_model

KINDS = ("llama", "qwen2", "grid")
P_MIN = 0.02
OPTIM = OptimConfig(learning_rate=1e-3, schedule="linear", warmup_fraction=0.125)
OVERFLOWS = 1.5
"""Bound of all weights in fp16: while the scale of the loss comes down, steps are left out whose gradient overflows."""
ITEM_SIZES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class Way:
    """A way of computing, and by how many nats it may differ from fp32."""

    precision: str
    bound: float
    compile: bool = False
    four_bit: bool = False


WAYS = {
    "fp32": Way("fp32", 0.01),
    "fp16": Way("fp16", 0.1),
    "bf16": Way("bf16", 0.5),
    "compiled-fp32": Way("fp32", 0.01, compile=True),
    "compiled-bf16": Way("bf16", 0.5, compile=True),
    "4-bits": Way("bf16", 0.5, four_bit=True),
}


@cache
def shortest(n: int) -> tuple[Task, ...]:
    return load_tasks("arc1:training", f"shortest:{n}")


@dataclass(frozen=True)
class Case:
    """A model in its folder, seen in a way and by its reference, and what both are asked."""

    kind: str
    folder: Path
    way: Way
    options: argparse.Namespace

    def ours(self, all_trained: bool = False) -> LoadedModel:
        """In the precision of the way; on a CPU its weights, too, as a GPU holds them."""
        way, where = self.way, (self.folder, self.way.precision, self.options.device)
        model = load_model(*where, four_bit=way.four_bit, all_trained=all_trained)
        if model.device.type == "cpu" and not all_trained and not way.four_bit:
            model.network.to(DTYPES[way.precision])
            return replace(model, autocast=None)
        return model

    def reference(self) -> LoadedModel:
        """In fp32, on the same device; on a CPU for fp32 itself."""
        device = "cpu" if self.way == WAYS["fp32"] else self.options.device
        model = load_model(self.folder, "fp32", device)
        if self.way.four_bit:
            take_dequantised(self.ours().network, model.network)
        return model

    def engine(self, model: LoadedModel) -> HFEngine:
        return HFEngine(model, config=HFConfig(compile=self.way.compile))

    def requests(self, model: LoadedModel) -> list[Request]:
        options = self.options
        config = GenerateConfig(n_views=options.views, max_new_tokens=options.tokens)
        return [
            request
            for task in shortest(options.tasks)
            for request in make_requests(task, model.notation, config, task_rng(task, 0, "views"))
        ]

    def examples(self, model: LoadedModel, config: TuneConfig) -> list[Example]:
        task = shortest(self.options.tasks)[0]
        endless = tuning_examples(task, model.notation, config, task_rng(task, 0, "tune"))
        return list(islice(endless, config.steps * config.batch_size))

    def shape(self) -> Shape:
        return read_shape(self.folder)

    def distance(self, seconds: float, passes: Sequence[Pass]) -> dict[str, float | None]:
        """Seconds, the least that the machine needs, and their ratio; kernels are compiled and warmed up in it."""
        peaks = self.options.peaks
        if not peaks:
            return {"seconds": round(seconds, 3), "least_seconds": None, "over_roofline": None}
        least = least_seconds(passes, Peaks(peaks[self.way.precision], peaks["bytes"]))
        return {"seconds": round(seconds, 3), "least_seconds": least, "over_roofline": round(seconds / least, 1)}

    @property
    def item_size(self) -> int:
        return ITEM_SIZES[self.way.precision]


@torch.no_grad()
def take_dequantised(quantised: Any, network: Any) -> None:
    """Write the weights that the 4 bits stand for into a network of the same names."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    into = dict(network.named_modules())
    for name, module in quantised.named_modules():
        if isinstance(module, Linear4bit):
            into[name].weight.copy_(dequantize_4bit(module.weight.data, module.weight.quant_state))


def prompts_and_limits(requests: Sequence[Request]) -> tuple[list[TokenIds], list[int]]:
    return [request.ids for request in requests], [request.max_new_tokens for request in requests]


def check_greedy(case: Case) -> dict[str, Any]:
    model, reference = case.ours(), case.reference()
    prompts, limits = prompts_and_limits(case.requests(model))
    wanted = [each.ids for each in in_order(HFEngine(reference).generate(prompts, limits, NEVER))]
    seconds, found = timed(lambda: in_order(case.engine(model).generate(prompts, limits, NEVER)))
    texts = [each.ids for each in found]
    margins = [margin(reference, *each) for each in zip(prompts, wanted, texts, strict=True)]
    plain = peers.generate(reference, prompts, limits, 1)
    passes = list(answers(case.shape(), lengths(prompts), lengths(texts), case.item_size))
    return {
        **verdict([m for m in margins if m is not None], len(prompts), case),
        "distinct_texts": len({each.tobytes() for each in wanted}),
        "reference_same_as_transformers": sum(np.array_equal(*each) for each in zip(plain, wanted, strict=True)),
        **case.distance(seconds, passes),
    }


def check_search(case: Case) -> dict[str, Any]:
    model, reference, search = case.ours(), case.reference(), Search(P_MIN)
    prompts, limits = prompts_and_limits(case.requests(model))
    wanted = in_order(HFEngine(reference).search(prompts, limits, NEVER, search))
    seconds, found = timed(lambda: in_order(case.engine(model).search(prompts, limits, NEVER, search)))
    differences, n_alone, trees = [], 0, []
    for theirs, ours in zip(wanted, found, strict=True):
        a, b = ({tuple(c.ids.tolist()): -c.log_prob for c in each.completions} for each in (theirs, ours))
        differences += [abs(a[ids] - b[ids]) for ids in a.keys() & b.keys()]
        alone = a.keys() ^ b.keys()
        n_alone += len(alone)
        differences += [search.max_nll - {**a, **b}[ids] for ids in alone]
        trees.append(n_tokens_once([c.ids for c in ours.completions]))
    of = len(differences)
    passes = list(scores(case.shape(), lengths(prompts), trees, case.item_size))
    return {**verdict(differences, of, case), "same": of - n_alone, **case.distance(seconds, passes)}


def check_scores(case: Case) -> dict[str, Any]:
    model, reference = case.ours(), case.reference()
    prompts, limits = prompts_and_limits(case.requests(model))
    known = [each.ids for each in in_order(HFEngine(reference).generate(prompts, limits, NEVER))]
    rng = np.random.default_rng(0)
    asked = [[ids, *(changed(ids, rng) for _ in range(3))] for ids in known]
    wanted = np.array(peers.score(reference, prompts, asked, 8))
    seconds, found = timed(lambda: np.array(in_order(case.engine(model).score(prompts, asked, NEVER))))
    passes = list(scores(case.shape(), lengths(prompts), [n_tokens_once(each) for each in asked], case.item_size))
    n_tokens = np.array([[len(ids) for ids in each] for each in asked])
    differences = (np.abs(wanted - found) / n_tokens).ravel().tolist()  # a token
    return {**verdict(differences, len(differences), case), **case.distance(seconds, passes)}


def changed(ids: TokenIds, rng: np.random.Generator) -> TokenIds:
    """A candidate with another token somewhere, a cell as any."""
    found = ids.copy()
    found[rng.integers(len(found))] = ids[rng.integers(len(ids))] if len(ids) > 1 else ids[0]
    return found


def check_losses(weights: str, case: Case) -> dict[str, Any]:
    if weights == "all" and case.way.four_bit:
        return {"left_out": "weights in 4 bits are not trained themselves"}
    recipe = RECIPES["lora" if weights == "lora" else "box"]
    config = replace(recipe, steps=case.options.steps, batch_size=2, tokens_per_step=None, max_tokens=1024, optim=OPTIM)
    reference, ours = (InProcessTuner(model, config) for model in (case.reference(), case.ours(weights == "all")))
    examples = case.examples(ours.model, config)
    reference.weights.reset(0)
    ours.weights.reset(0)
    if isinstance(ours.weights, LoraAdapter) and isinstance(reference.weights, LoraAdapter):
        for factor, start in zip(ours.weights.parameters, reference.weights.parameters, strict=True):
            factor.data.copy_(start.data)  # devices draw different numbers from one seed
    wanted, found = list[float](), list[float]()
    reference._train(cycle(examples), wanted, config, NEVER)
    seconds, _ = timed(lambda: ours._train(cycle(examples), found, config, NEVER))
    batch = [len(each.ids) for each in examples[:2]]
    n_labels = sum(int((each.labels != NOT_TRAINED).sum()) for each in examples[:2])
    step = training(case.shape(), batch, n_labels, weights, 4 if weights == "all" else case.item_size)
    differences = [abs(a - b) for a, b in zip(wanted, found, strict=True)]
    told = {"losses": [round(each, 4) for each in found], "of_fp32": [round(each, 4) for each in wanted]}
    bound = OVERFLOWS if weights == "all" and case.way.precision == "fp16" else None
    return {**verdict(differences, config.steps, case, bound), **told, **case.distance(seconds, [step] * config.steps)}


def verdict(differences: Sequence[float], of: int, case: Case, bound: float | None = None) -> dict[str, Any]:
    """How many of how many differ by nothing that counts, and the largest differences in nats."""
    bound = bound or case.way.bound
    largest = sorted((abs(float(each)) for each in differences), reverse=True)[:5]
    return {
        "equal": bool(of) and all(each <= bound for each in largest),
        "same": of - sum(abs(each) > bound / 100 for each in differences),
        "of": of,
        "largest_differences_nats": [round(each, 6) for each in largest],
        "bound_nats": bound,
    }


def lengths(rows: Sequence[TokenIds]) -> list[int]:
    return [len(row) for row in rows]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, found


CHECKS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "greedy": check_greedy,
    "search": check_search,
    "scores": check_scores,
    "lora": partial(check_losses, "lora"),
    "all": partial(check_losses, "all"),
}


def make_model(kind: str, folder: Path) -> None:
    if kind == "qwen2":
        make_folder("toy", folder, scale=20)
    else:
        save_model(lively_model(0, kind), folder, "box", {})


def checked(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each check of a way; what fails is told in its row."""
    way = WAYS[name]
    if way.four_bit and find_spec("bitsandbytes") is None:
        yield {"left_out": "found no package bitsandbytes, which holds weights in 4 bits"}
        return
    with tempfile.TemporaryDirectory() as scratch:
        for kind in options.kinds:
            folder = Path(scratch) / kind
            make_model(kind, folder)
            for check, work in CHECKS.items():
                if way.compile and check in ("lora", "all"):
                    continue  # fine-tuning is never compiled
                try:
                    found = work(Case(kind, folder, way, options))
                except Exception as error:
                    found = {"error": f"{type(error).__name__}: {error}"[:500]}
                yield {"row": f"{kind}, {check}", **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peaks", type=json.loads, default={}, help="what roofline.py has measured")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=40, help="of an answer at most")
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sys.setrecursionlimit(20_000)
    for row in checked(options.way, options):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
