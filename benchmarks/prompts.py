"""Prompts with completions on a real model of 135M parameters: rewrite instructions, word problems, small functions.

    python benchmarks/prompts.py --embeddings FOLDER [--out out/prompts] [--model .data/real-model]
    python benchmarks/prompts.py --toy

It makes up the sets (`benchmarks/prompt_sets.py`), runs `arc-kaggle train` and `evaluate-prompts`, and writes
OUT/tables.md after each of them; the last line that it prints is JSON. What was done with the same command on the same
sets, model and trainings is not done again, so that the same command goes on where it was stopped; what was done with
others is done anew. About two hours on one core. `--toy` goes through all of it with a tiny model of random weights.
Without --embeddings, any folder of sentence-transformers, similarities are left out.

Expected: completions alone are learnt in fewer epochs than everything, and the best epoch is at least as good; the
similarity of the epochs follows their validation loss. The model knows the words of an instruction but not what is
asked for, so that its base scores under 0.2 on rewrites; joining two adapters' answers helps neither. Few examples turn
invalid answers of word problems into valid ones; most stay wrong, and a vote of five samples is at most five points
better than one greedy answer. Two thirds of the small functions pass, a little more with two examples, for the
function's name then is the one asked for. Training on rewrites alone leaves word problems where they were or spoils
them; on both sets each score is at most a little behind that of its own set alone, in as many steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prompt_sets import write_sets

from arc_kaggle.system.files import write_atomically

LORA = ("--weights", "lora", "--lora.rank", "8", "--lora.alpha", "16", "--optim.learning-rate", "1e-3")
TASK = "Solve the problem. Show the calculation, then end with #### and the number.\n\n"
ROOT = Path(__file__).resolve().parents[1]
LEAST_TESTED = 10
"""Fewer items than this say nothing of a difference."""
Jobs = dict[str, list[str]]
"""Commands by the folder that each writes, which is a row or a few of the tables."""
Run = Callable[[list[str]], None]
"""Runs a command to its end; raises where that is no success."""


@dataclass(frozen=True, slots=True)
class Options:
    """Folders and sizes."""

    out: Path
    model: Path
    embeddings: Path | None
    epoch: int = 6
    """Steps in which as many examples are drawn as there are items, about."""
    n_epochs: int = 4
    max_tokens: int = 192
    first: int = 0
    """Items that are judged; all where it is 0."""

    def set_file(self, name: str) -> Path:
        return self.out / "sets" / f"{name}.jsonl"

    def train(self, name: str, data: list[str], *more: object) -> list[str]:
        """A training of one adapter, with a checkpoint an epoch and the best one kept."""
        steps = ("--steps", self.epoch * self.n_epochs, "--save-every", self.epoch, "--keep-checkpoints", self.n_epochs)
        sizes = ("--tokens-per-batch", 640, "--bucket", 32, "--max-tokens", self.max_tokens, "--hold-out", 0.2)
        sources = [f"prompts:{self.set_file(each)}" for each in data]
        start = ("--out", self.out / name, "--start", self.model, "--chat", "--keep-best", "--data", *sources)
        return arc("train", *start, *LORA, *steps, *sizes, *more)

    def ask(self, name: str, models: list[Path], data: str, *more: object) -> list[str]:
        """One evaluation of some models or adapters."""
        first = ("--first", self.first) if self.first else ()
        files = ("--data", self.set_file(data), "--out", self.out / name, "--base", self.model)
        return arc("evaluate-prompts", *models, *files, "--chat", *first, *more)

    def best(self, name: str) -> Path:
        return self.out / name / "best"

    def epochs(self, name: str) -> list[Path]:
        steps = (self.epoch * (i + 1) for i in range(self.n_epochs))
        return [self.out / name / "checkpoints" / f"step-{step:08d}" for step in steps]


def arc(*words: object) -> list[str]:
    return [sys.executable, "-m", "arc_kaggle.cli", *map(str, words)]


def trainings(options: Options) -> Jobs:
    """The adapters: on rewrites with either loss, on word problems, and on both."""
    rewrites, words, completions = ["rewrite-train"], ["words-train"], ("--loss", "last_output")
    return {
        "rewrite-completions": options.train("rewrite-completions", rewrites, *completions),
        "rewrite-everything": options.train("rewrite-everything", rewrites, "--loss", "everything"),
        "mix-words-alone": options.train("mix-words-alone", words, *completions),
        "mix-both": options.train("mix-both", rewrites + words, *completions),
    }


def similarities(options: Options) -> Jobs:
    """Prompt recovery: the base, every epoch, the best of each loss, both joined, and the mixture's ablation."""
    if options.embeddings is None:
        return {}
    how = ("--score", "similarity", "--embeddings", options.embeddings, "--max-new-tokens", 32, "--combine", "join")

    def asked(name: str, models: list[Path]) -> list[str]:
        return options.ask(name, models, "rewrite-test", *how)

    losses = ("rewrite-completions", "rewrite-everything")
    return {
        "rewrite-base": asked("rewrite-base", [options.model]),
        **{f"{name}-epochs": asked(f"{name}-epochs", options.epochs(name)) for name in losses},
        "rewrite-best": asked("rewrite-best", [options.best(name) for name in losses]),
        **{f"{name}-on-rewrites": asked(f"{name}-on-rewrites", [options.best(name)]) for name in MIXES},
    }


MIXES = ("rewrite-completions", "mix-words-alone", "mix-both")
"""Trained on one set, on the other, on both, in as many steps."""


def word_problems(options: Options) -> Jobs:
    """Zero-shot and few-shot, with and without a prefix, votes of samples and of adapters, the mixture's ablation."""
    how = ("--score", "number", "--max-new-tokens", 96)
    shots = ("--shots", 4, "--shots-from", options.set_file("words-train"))
    prefix, five = ("--prefix", TASK), ("--predictions", 5, "--temperature", 0.7)

    def asked(name: str, *more: object, models: list[Path] | None = None) -> tuple[str, list[str]]:
        return name, options.ask(name, models or [options.model], "words-test", *how, *more)

    return dict(
        [
            asked("words-0"),
            asked("words-0-prefix", *prefix),
            asked("words-4", *shots),
            asked("words-4-prefix", *shots, *prefix),
            asked("words-4-vote-of-5", *shots, *five, "--combine", "vote"),
            asked("words-4-likeliest-of-5", *shots, *five, "--combine", "likeliest"),
            *(asked(f"{name}-on-words", models=[options.best(name)]) for name in MIXES),
            asked("words-adapters", models=[options.best(name) for name in MIXES[1:]]),
        ]
    )


def others(options: Options) -> Jobs:
    """Multiple choice by likelihood, and small functions without and with examples before them."""
    code = ("--score", "code", "--max-new-tokens", 96)
    shots = ("--shots", 2, "--shots-from", options.set_file("code-train"))
    return {
        "choices-0": options.ask("choices-0", [options.model], "choices-test", "--score", "choice"),
        "code-0": options.ask("code-0", [options.model], "code-test", *code),
        "code-2": options.ask("code-2", [options.model], "code-test", *code, *shots),
    }


def key_of(name: str, jobs: Jobs, options: Options) -> str:
    """Of a command and all that it reads: sets by their content, models by their config and sizes, trainings by key."""
    command, sets = jobs[name], sorted((options.out / "sets").glob("*.jsonl"))
    parts = command[1:] + [path.read_text(encoding="utf-8") for path in sets if str(path) in " ".join(command)]
    parts += [about(folder) for folder in (options.model, options.embeddings) if folder and str(folder) in command]
    read = [each for each in jobs if each != name and reads(command, options.out / each)]
    parts += [key_of(each, jobs, options) for each in read]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def reads(command: list[str], folder: Path) -> bool:
    """Whether a command names a folder or what is in it."""
    return any(Path(word).is_relative_to(folder) for word in command)


def about(folder: Path) -> str:
    """The config and the sizes of the files of a folder, which no other model is likely to share."""
    sizes = sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())
    config = folder / "config.json"
    return json.dumps([sizes, config.read_text(encoding="utf-8") if config.is_file() else ""])


def do(name: str, jobs: Jobs, options: Options, run: Run) -> None:
    """Run a command unless it is done; what another command left in its folder is removed."""
    done, key = options.out / f"{name}.json", key_of(name, jobs, options)
    begun_with = options.out / f"{name}.begun"
    if done.is_file() and json.loads(done.read_text())["key"] == key:
        return
    if not begun_with.is_file() or begun_with.read_text() != key:
        shutil.rmtree(options.out / name, ignore_errors=True)
        begun_with.write_text(key)
    print(f"{name}: {' '.join(jobs[name][3:])}", flush=True)
    begun = time.monotonic()
    run(jobs[name])
    write_atomically(done, json.dumps({"key": key, "seconds": round(time.monotonic() - begun)}))


def result(folder: Path) -> dict[str, Any]:
    """The table of an evaluation, or the validation losses of a training."""
    if (folder / "summary.json").exists():
        summary = json.loads((folder / "summary.json").read_text())
        return {key: summary[key] for key in ("data", "metric", "n", "results", "compared_with_first")}
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = {row["step"]: round(row["validation_loss"], 4) for row in rows if "validation_loss" in row}
    return {"validation_loss": losses, "seconds": rows[-1].get("seconds")}


def tables(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Markdown: validation losses of the trainings by step, then a line for every column of every evaluation."""
    losses = {name: each["validation_loss"] for name, each in found.items() if "validation_loss" in each}
    steps = list(dict.fromkeys(step for each in losses.values() for step in each))
    yield f"| validation loss, nats | {' | '.join(f'step {step}' for step in steps)} |"
    yield "|---" + "|--:" * len(steps) + "|"
    for name, each in losses.items():
        yield f"| {name} | {' | '.join(f'{each[step]:.3f}' if step in each else '' for step in steps)} |"
    yield ""
    yield "| asked | model | score | n | mean | 95% | invalid | cut off | beside the first: p, or the difference |"
    yield "|---|---|---|--:|--:|---|--:|--:|---|"
    for name, each in found.items():
        for model, row in each.get("results", {}).items():
            low, high = row["interval_95"]
            against = each["compared_with_first"].get(model)
            cells = [name, model, each["metric"], each["n"], f"{row[each['metric']]:.3f}", f"{low:.3f}..{high:.3f}"]
            yield f"| {' | '.join(map(str, [*cells, row['invalid'], row['cut_off'], compared(against)]))} |"


def compared(against: dict[str, Any] | None) -> str:
    """What a summary says of a column beside its first one; `no evidence` where that is what it says."""
    if against is None:
        return ""
    if "p_value" in against:
        p = against["p_value"]
        return "too few" if p is None else f"p {p:.2g}{', no evidence' if p >= 0.05 else ''}"
    if against["n"] < LEAST_TESTED:
        return "too few"
    low, high = against["low"], against["high"]
    return f"{against['mean']:+.3f} ({low:+.3f}..{high:+.3f}){', no evidence' if low <= 0 <= high else ''}"


def toy(out: Path, embeddings: Path | None) -> Options:
    """All commands in a few seconds each: the tests' tiny model, two epochs of one step, two items."""
    sys.path.insert(0, str(ROOT / "tests"))
    from prompt_models import write_text_model

    if not (out / "toy-model" / "config.json").is_file():
        write_text_model(out / "toy-model")
    return Options(out / "toy", out / "toy-model", embeddings, epoch=1, n_epochs=2, max_tokens=512, first=2)


def in_a_process(wrap: Sequence[str]) -> Run:
    """Runs commands with this package, wherever the benchmark was started."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}

    def run(command: list[str]) -> None:
        subprocess.run([*wrap, *command], check=True, env=environment)

    return run


def do_all(options: Options, run: Run) -> dict[str, dict[str, Any]]:
    """Every job in turn; the tables of those that are through are written after each."""
    write_sets(options.out / "sets")
    jobs = {**trainings(options), **similarities(options), **word_problems(options), **others(options)}
    found: dict[str, dict[str, Any]] = {}
    for name in jobs:
        do(name, jobs, options, run)
        found[name] = result(options.out / name)
        write_atomically(options.out / "tables.md", "\n".join(tables(found)) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "prompts")
    parser.add_argument("--model", type=Path, default=ROOT / ".data" / "real-model")
    parser.add_argument("--embeddings", type=Path, default=None, help="a folder of sentence-transformers")
    parser.add_argument("--wrap", nargs="*", default=[], help="words before every command")
    parser.add_argument("--toy", action="store_true", help="a tiny model of random weights, two items a set")
    given = parser.parse_args()
    options = toy(given.out, given.embeddings) if given.toy else Options(given.out, given.model, given.embeddings)
    if options.embeddings is None:
        print("similarities are left out: name a sentence-transformers folder by --embeddings", flush=True)
    found = do_all(options, in_a_process(given.wrap))
    print("\n".join(tables(found)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
