"""Answers, searches and scores of the engine against transformers, the published search and full forwards.

    python benchmarks/airv.py [--select shortest:20] [--n-views 16] [--repeats 3] [--tune none] [--model FOLDER] ...

Every task is fine-tuned first, so that answers are realistic; with `--tune none` all tasks share batches. All ways of
a row take turns on the same prompts; seconds are summed over tasks, and the median of the repeats counts. Prints a
JSON object last; `ratios` is its table: row -> ours, peer, ratio, ceiling. The ceiling is what arithmetic allows,
measured: every prompt and its answers fed once, as if all of them had been known. `--rows` chooses rows, and with
`--progress` the object is printed after each of them, with what is known by then.

With `--compile` the engine's steps are compiled, on a GPU into graphs, and the first repeat pays for it.

Expected before the first run, on two cores with edition 2 of the model in the box: row 1 with drafts 5x against one at
a time and 2x against batched; row 2 with drafts 3x at 0.2, less at 0.05; row 3 3x at 16 candidates, two thirds of the
ceiling at 64. Found then: 0.9x against batched. Expected of no head in the prefill, earlier answers of the prompt as
drafts, one mask for all layers and less Python a step: 1.8x against batched, 1.2x on longer tasks, row 3 3x at 16.
Found: 1.4x, with drafts 1.5x; on longer tasks 1.0x, with drafts 0.8x; row 3 2.3x at 16, longer 3.6x. A third of row 1
is prefill, half the network's own steps, some 36 forwards for 102 tokens; Python and log-probabilities are the rest. On
longer tasks the views disagree, few drafts hold, and a pilot's steps alone cost as much as a whole batch's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import peers
import torch
import transformers

from arc_kaggle import Task, load_tasks, recipe_of
from arc_kaggle.answering.predict import Interpreter
from arc_kaggle.answering.requests import Request, make_requests
from arc_kaggle.config.answer import GenerateConfig, Search
from arc_kaggle.config.engines import HFConfig
from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.engines.base import Completion, Found
from arc_kaggle.engines.hf.engine import HFEngine
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.tasks.augmentation import task_rng
from arc_kaggle.tasks.grid import Grid, grid_key
from arc_kaggle.text.tokens import TokenIds

NEVER = Deadline.never()
SCORED_VIEWS = 8


@dataclass(frozen=True)
class Group:
    """Requests that one state of a model answers, and the tasks they are of."""

    engine: HFEngine
    tasks: dict[str, Task]
    requests: list[Request]

    @property
    def model(self) -> LoadedModel:
        return self.engine.model

    @property
    def interpreter(self) -> Interpreter:
        return Interpreter(self.engine, self.model.notation)

    @property
    def prompts(self) -> list[TokenIds]:
        return [request.ids for request in self.requests]

    @property
    def limits(self) -> list[int]:
        return [request.max_new_tokens for request in self.requests]

    def part(self, chosen: Callable[[Request], bool]) -> Group:
        return replace(self, requests=[request for request in self.requests if chosen(request)])

    def grids(self, request: Request, found: Completion | Found) -> list[Grid]:
        """What was found, the likeliest first, as the task has it."""
        completions = found.completions if isinstance(found, Found) else (found,)
        predictions = [self.interpreter.read(request, each, "no_end") for each in completions]
        return [each.grid for each in predictions if each.grid is not None]

    def test_input(self, request: Request) -> Grid:
        return self.tasks[request.task_id].test[request.query].input


Ask = Callable[[Group, list[list[TokenIds]]], list[Any]]
"""Greedy answers or searches of a group's requests, given their drafts."""


def greedy(group: Group, drafts: list[list[TokenIds]]) -> list[Completion]:
    return in_order(group.engine.generate(group.prompts, group.limits, NEVER, drafts=drafts))


def search(p_min: float) -> Ask:
    options = Search(p_min)

    def ask(group: Group, drafts: list[list[TokenIds]]) -> list[Found]:
        return in_order(group.engine.search(group.prompts, group.limits, NEVER, options, drafts=drafts))

    return ask


def without_drafts(group: Group, ask: Ask) -> list[Any]:
    return ask(group, [[] for _ in group.requests])


def in_two_waves(group: Group, ask: Ask) -> list[Any]:
    """One view of each query; then the rest, with what was found, in their view, as drafts."""
    found: dict[int, Any] = {}
    known: dict[tuple[str, int], list[Grid]] = defaultdict(list)
    for is_pilot in (True, False):
        rows = [i for i, request in enumerate(group.requests) if (request.view == 0) is is_pilot]
        wave = replace(group, requests=[group.requests[i] for i in rows])
        drafts = [
            [group.interpreter.write(each, grid) for grid in known[each.task_id, each.query]] for each in wave.requests
        ]
        for i, result in zip(rows, ask(wave, drafts), strict=True):
            found[i] = result
            request = group.requests[i]
            known[request.task_id, request.query] += group.grids(request, result)
    return [found[i] for i in range(len(group.requests))]


def published(group: Group, p_min: float) -> list[dict[tuple[int, ...], float]]:
    """View by view, with the best candidate so far as the guess."""
    peer, found = peers.PublishedSearch(group.model, Search(p_min).max_nll), []
    weights: dict[tuple[str, int], dict[Any, tuple[float, Grid]]] = defaultdict(dict)
    for request in group.requests:
        known = weights[request.task_id, request.query]
        best = max(known.values(), key=lambda item: item[0], default=None)
        guess = np.array([], dtype=np.int64) if best is None else group.interpreter.write(request, best[1])
        nlls = peer.run(request.ids, request.max_new_tokens, guess)
        for ids, nll in nlls.items():
            completion = Completion(np.array(ids), np.array([-nll], dtype=np.float32), ended=True)
            for grid in group.grids(request, completion):
                known[grid_key(grid)] = known.get(grid_key(grid), (0.0, grid))[0] + float(np.exp(-nll)), grid
        found.append(nlls)
    return found


def in_order(found: Iterator[tuple[int, Any]]) -> list[Any]:
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def candidates(group: Group, answers: Sequence[Completion], n: int) -> list[list[TokenIds]]:
    """For every request `n` distinct grids: what its query's views answered, then those with some cells changed."""
    rng, by_query = np.random.default_rng(0), defaultdict(dict)
    for request, answer in zip(group.requests, answers, strict=True):
        for grid in group.grids(request, answer):
            by_query[request.task_id, request.query][grid_key(grid)] = grid
    for request in group.requests:
        known = by_query[request.task_id, request.query]
        known = known or {grid_key(group.test_input(request)): group.test_input(request)}
        while len(known) < n:
            changed = list(known.values())[rng.integers(len(known))].copy()
            changed.flat[rng.integers(changed.size)] = rng.integers(10)
            known[grid_key(changed)] = changed
        by_query[request.task_id, request.query] = known
    return [
        [group.interpreter.write(request, grid) for grid in list(by_query[request.task_id, request.query].values())[:n]]
        for request in group.requests
    ]


class Table:
    """Seconds of every way, by repeat, and how far what they found agrees."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * repeats)
        self.agreement: dict[str, Any] = defaultdict(lambda: {"same": 0, "of": 0, "differences": []})
        self.lengths: dict[str, list[int]] = defaultdict(list)
        """Tokens of every prompt, answer, and tree of candidates."""

    def measure(self, ways: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """Let the ways take turns; returns what each found last."""
        found = {}
        for repeat in range(self.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                found[name] = way()
                self.seconds[name][repeat] += time.perf_counter() - started
        return found

    def agree(self, name: str, same: int, of: int, differences: Sequence[float]) -> None:
        row = self.agreement[name]
        row["same"], row["of"] = row["same"] + same, row["of"] + of
        row["differences"] += [round(float(each), 6) for each in differences]

    def ratios(self, names: Mapping[str, tuple[str, str, str]]) -> dict[str, dict[str, float]]:
        """Those rows of which all three, ours, peer and ceiling, have been measured."""
        return {row: self.ratio(*each) for row, each in names.items() if self.seconds.keys() >= set(each)}

    def ratio(self, ours: str, peer: str, ceiling: str) -> dict[str, float]:
        a, b, best = (median(self.seconds[name]) for name in (ours, peer, ceiling))
        return {"ours": round(a, 3), "peer": round(b, 3), "ratio": round(b / a, 2), "ceiling": round(b / best, 2)}


def measure_group(group: Group, table: Table, options: argparse.Namespace, batch: int) -> Iterator[str]:
    """Rows 1 to 3 on one group; yields the name of each when it is measured."""
    plain = without_drafts(group, greedy)
    table.lengths["answers"] += [len(answer.ids) for answer in plain]
    if 1 in options.rows:
        measure_greedy(group, table, plain, options, batch)
        yield "1"
    for p_min in options.p_min if 2 in options.rows else ():
        measure_search(group, table, p_min)
        yield f"2, p_min {p_min}"
    scored = group.part(lambda request: request.view < SCORED_VIEWS)
    its_answers = [answer for request, answer in zip(group.requests, plain, strict=True) if request.view < SCORED_VIEWS]
    for n in options.candidates if 3 in options.rows else ():
        measure_scores(scored, table, candidates(scored, its_answers, n), n, batch)
        yield f"3, {n} candidates"


def measure_greedy(
    group: Group, table: Table, plain: Sequence[Completion], options: argparse.Namespace, batch: int
) -> None:
    by_task = [group.part(lambda request, task=task: request.task_id == task) for task in group.tasks]
    known = [[answer.ids] for answer in plain]
    one_at_a_time: dict[str, Callable[[], Any]] = {
        "1 peer, one at a time": lambda: peers.generate(group.model, group.prompts, group.limits, 1),
        "1 one at a time": lambda: [
            without_drafts(replace(group, requests=[request]), greedy)[0] for request in group.requests
        ],
    }
    batch_per_task = {"1 batch per task": lambda: [each for part in by_task for each in without_drafts(part, greedy)]}
    answers = table.measure(
        {
            **({} if options.batched_only else one_at_a_time),
            "1 peer, batched": lambda: peers.generate(group.model, group.prompts, group.limits, batch),
            **(batch_per_task if len(by_task) > 1 else {}),
            "1 all prompts": lambda: without_drafts(group, greedy),
            "1 + drafts": lambda: in_two_waves(group, greedy),
            "1 ceiling": lambda: in_order(group.engine.score(group.prompts, known, NEVER)),
        }
    )
    ours = [answer.ids for answer in answers["1 + drafts"]]
    for peer in [name for name in answers if "peer" in name]:
        margins = [margin(group.model, *each) for each in zip(group.prompts, ours, answers[peer], strict=True)]
        table.agree(peer, sum(m is None for m in margins), len(margins), [m for m in margins if m is not None])


def measure_search(group: Group, table: Table, p_min: float) -> None:
    known = [[each.ids for each in found.completions] for found in in_two_waves(group, search(p_min))]
    found = table.measure(
        {
            f"2 peer, p_min {p_min}": lambda: published(group, p_min),
            f"2 no drafts, p_min {p_min}": lambda: without_drafts(group, search(p_min)),
            f"2 + drafts, p_min {p_min}": lambda: in_two_waves(group, search(p_min)),
            f"2 ceiling, p_min {p_min}": lambda: in_order(group.engine.score(group.prompts, known, NEVER)),
        }
    )
    for theirs, ours in zip(found[f"2 peer, p_min {p_min}"], found[f"2 + drafts, p_min {p_min}"], strict=True):
        nlls = {tuple(each.ids.tolist()): -each.log_prob for each in ours.completions}
        both = nlls.keys() & theirs.keys()
        differences = [abs(nlls[ids] - theirs[ids]) for ids in both]
        table.agree(f"2 p_min {p_min}", len(both), len(nlls.keys() | theirs.keys()), [max(differences, default=0.0)])


def measure_scores(group: Group, table: Table, asked: list[list[TokenIds]], n: int, batch: int) -> None:
    found = table.measure(
        {
            f"3 peer, {n} candidates": lambda: peers.score(group.model, group.prompts, asked, batch),
            f"3 shared prefix, {n} candidates": lambda: in_order(group.engine.score(group.prompts, asked, NEVER)),
        }
    )
    theirs, ours = (np.array(each) for each in found.values())
    table.agree(
        f"3 {n} candidates", int((np.abs(theirs - ours) < 1e-3).sum()), ours.size, [np.abs(theirs - ours).max()]
    )
    table.lengths[f"trees of {n} candidates"] += [n_tokens_once(each) for each in asked]
    table.lengths[f"prompts of {n} candidates"] += map(len, group.prompts)
    prompts, trees = sum(map(len, group.prompts)), sum(n_tokens_once(each) for each in asked)
    full = sum(n * len(prompt) + sum(map(len, each)) for prompt, each in zip(group.prompts, asked, strict=True))
    table.seconds[f"3 tokens, {n} candidates"] = [table.seconds[f"3 tokens, {n} candidates"][0] + full]
    table.seconds[f"3 tokens once, {n} candidates"] = [
        table.seconds[f"3 tokens once, {n} candidates"][0] + prompts + trees
    ]


def n_tokens_once(asked: Sequence[TokenIds]) -> int:
    """Distinct beginnings of the candidates: tokens that have to be computed behind a prompt."""
    return len({ids[:i].tobytes() for ids in asked for i in range(1, len(ids))})


@torch.inference_mode()
def margin(model: LoadedModel, prompt: TokenIds, one: TokenIds, other: TokenIds) -> float | None:
    """Nats by which fp32 prefers one answer's token to the other's where they first differ; None where they do not."""
    n = min(len(one), len(other))
    differ = np.flatnonzero(one[:n] != other[:n])
    if not len(differ):
        return None
    at = int(differ[0])
    network: Any = model.network
    ids = torch.from_numpy(np.concatenate([prompt, one[:at]]))[None].to(model.device)
    logits = network(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].float()
    return float(logits[one[at]] - logits[other[at]])


def best_batch(group: Group, sizes: Sequence[int]) -> int:
    """The size that transformers' generate answers fastest with."""
    seconds = {}
    for batch in sizes:
        started = time.perf_counter()
        peers.generate(group.model, group.prompts, group.limits, batch)
        seconds[batch] = time.perf_counter() - started
        if batch >= len(group.prompts):
            break
    return min(seconds, key=lambda batch: seconds[batch])


def groups(options: argparse.Namespace) -> Iterator[Group]:
    """One of every task, after its fine-tuning, or a single one of all tasks."""
    model = load_model(options.model, options.precision, options.device)
    engine = HFEngine(model, config=HFConfig(compile=options.compile))
    tasks = load_tasks(options.tasks, options.select)
    config = GenerateConfig(n_views=options.n_views, max_new_tokens=options.max_new_tokens)
    requests = {
        task.id: list(make_requests(task, model.notation, config, task_rng(task, 0, "views"))) for task in tasks
    }
    if options.tune == "none":
        yield Group(engine, {task.id: task for task in tasks}, [each for own in requests.values() for each in own])
        return
    from arc_kaggle.tuning.examples import tuning_examples
    from arc_kaggle.tuning.tuner import InProcessTuner

    recipe = recipe_of(options.model, options.tune)
    tuner = InProcessTuner(model, replace(recipe, steps=options.steps or recipe.steps))
    for task in tasks:
        rng = task_rng(task, 0, "tune")
        examples = tuning_examples(task, model.notation, recipe, rng)
        report = tuner.tune(examples, int(rng.integers(2**31)), NEVER)
        print(f"{task.id}: {report.text}, loss {report.first_loss} to {report.last_loss}", file=sys.stderr)
        yield Group(engine, {task.id: task}, requests[task.id])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=BOX_FOLDER)
    parser.add_argument("--tasks", default="arc1:evaluation")
    parser.add_argument("--select", default="shortest:20")
    parser.add_argument("--n-views", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=GenerateConfig().max_new_tokens, help="of an answer")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 2, 3], choices=[1, 2, 3])
    parser.add_argument("--batched-only", action="store_true", help="no way that answers one prompt after the other")
    parser.add_argument("--peer-batches", type=int, nargs="*", default=[4, 8, 16, 32, 64], help="the best one counts")
    parser.add_argument("--progress", action="store_true", help="print the JSON object after every row")
    parser.add_argument("--tune", default="auto", help="recipe of fine-tuning, or none")
    parser.add_argument("--steps", type=int, help="of fine-tuning, where not the recipe's own")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the engine's steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--p-min", type=float, nargs="*", default=[0.2, 0.1, 0.05])
    parser.add_argument("--candidates", type=int, nargs="*", default=[4, 16, 64])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.setrecursionlimit(20_000)  # the published search is a recursion as deep as an answer is long
    table, batch = Table(options.repeats), 0
    for group in groups(options):
        batch = batch or best_batch(group, options.peer_batches)
        table.lengths["prompts"] += map(len, group.prompts)
        for row in measure_group(group, table, options, batch):
            print(f"row {row} of {', '.join(group.tasks)}", file=sys.stderr)
            if options.progress:
                print(json.dumps(facts_of(table, group.model, options, batch)), flush=True)
    print(json.dumps(facts_of(table, group.model, options, batch)))


def facts_of(table: Table, model: LoadedModel, options: argparse.Namespace, batch: int) -> dict[str, Any]:
    row_1 = {
        f"1 {way} against {peer}": (f"1 {way}", f"1 peer, {peer}", "1 ceiling")
        for peer in ("one at a time", "batched")
        for way in ("one at a time", "batch per task", "all prompts", "+ drafts")
    }
    row_2 = {
        f"2 p_min {p}, {way}": (f"2 {way}, p_min {p}", f"2 peer, p_min {p}", f"2 ceiling, p_min {p}")
        for p in options.p_min
        for way in ("no drafts", "+ drafts")
    }
    row_3 = {f"3 {n} candidates": score_ratio(table, n) for n in options.candidates if scored(table, n)}
    sizes = table.lengths["prompts"]
    return {
        "benchmark": "airv",
        "arguments": sys.argv[1:],
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "hardware": hardware(options),
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "precision": str(model.autocast or model.network.dtype).removeprefix("torch."),
        "prompts": {"number": len(sizes), "mean_tokens": round(float(np.mean(sizes)), 1)},
        "lengths": table.lengths if options.progress else {},
        "peer_batch": batch,
        "seconds": {
            name: [round(each, 3) for each in row] for name, row in table.seconds.items() if "token" not in name
        },
        "agreement": {name: summary(row) for name, row in table.agreement.items()},
        "ratios": {**table.ratios(row_1), **table.ratios(row_2), **row_3},
    }


def scored(table: Table, n: int) -> bool:
    return f"3 tokens, {n} candidates" in table.seconds


def score_ratio(table: Table, n: int) -> dict[str, float]:
    """Here the ceiling is a count of tokens."""
    row = table.ratio(f"3 shared prefix, {n} candidates", f"3 peer, {n} candidates", f"3 shared prefix, {n} candidates")
    full, once = table.seconds[f"3 tokens, {n} candidates"][0], table.seconds[f"3 tokens once, {n} candidates"][0]
    return {**row, "ceiling": round(full / once, 2)}


def summary(row: dict[str, Any]) -> dict[str, Any]:
    largest = sorted(row["differences"], key=abs)[-5:]
    return {"same": row["same"], "of": row["of"], "largest_differences_nats": largest}


def commit() -> str:
    """The commit, with a plus where files differ from it."""
    root = Path(__file__).parents[1]
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True).stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True).stdout
    return name.strip() + ("+" if changed else "")


def hardware(options: argparse.Namespace) -> str:
    if torch.cuda.is_available() and options.device != "cpu":
        return str(torch.cuda.get_device_name())
    cpu = torch.cpu.get_capabilities()
    kind = "AVX512-BF16" if cpu.get("avx512_bf16") else "no bf16"
    return f"{options.threads} threads of {os.cpu_count()} {platform.machine()} cores ({kind}), no GPU"


if __name__ == "__main__":
    main()
