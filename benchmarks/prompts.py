"""Prompts with completions on a real model of 135M parameters: rewrite instructions, word problems, small functions.

    python benchmarks/prompts.py [--out out/prompts] [--model .data/real-model] [--embeddings FOLDER]

It makes up the sets (`benchmarks/prompt_sets.py`), runs `arc-kaggle train` and `evaluate-prompts`, and prints one JSON
object last; what is there already is not done again. About an hour on one core.

Expected: completions alone are learnt in fewer epochs than everything, and the best epoch is at least as good. The
model knows the words of an instruction but not what is asked for, so that its base scores under 0.2 on rewrites. Few
examples turn invalid answers of word problems into valid ones; most stay wrong. Two thirds of the small functions pass.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EPOCH, N_EPOCHS = 6, 4
"""Steps in which as many examples are drawn as there are items, about; and epochs."""
LORA = ("--weights", "lora", "--lora.rank", "8", "--lora.alpha", "16", "--optim.learning-rate", "1e-3")
STEPS = ("--steps", str(EPOCH * N_EPOCHS), "--save-every", str(EPOCH), "--keep-checkpoints", str(N_EPOCHS))
SIZES = ("--tokens-per-batch", "640", "--bucket", "32", "--max-tokens", "192", "--hold-out", "0.2")
TASK = "Solve the problem. Show the calculation, then end with #### and the number.\n\n"


def arc(*words: object) -> list[str]:
    return [sys.executable, "-m", "arc_kaggle.cli", *map(str, words)]


def jobs(out: Path, model: Path, embeddings: Path | None) -> dict[str, list[str]]:
    """Commands by the folder that each writes."""
    sets = out / "sets"
    found: dict[str, list[str]] = {}

    def ask(name: str, models: list[Path], data: str, *more: object) -> None:
        found[name] = arc("evaluate-prompts", *models, "--data", sets / f"{data}.jsonl", "--out", out / name, *more)

    def train(name: str, data: list[str], *more: object) -> None:
        sources = [f"prompts:{sets / each}" for each in data]
        shape = [*LORA, *STEPS, *SIZES]
        found[name] = arc(
            "train", "--out", out / name, "--start", model, "--chat", "--keep-best", "--data", *sources, *shape, *more
        )

    words = ("--score", "number", "--chat", "--max-new-tokens", 96)
    train("rewrite-completions", ["rewrite-train.jsonl"], "--loss", "last_output")
    train("rewrite-everything", ["rewrite-train.jsonl"], "--loss", "everything")
    if embeddings:
        similar = ("--score", "similarity", "--embeddings", embeddings, "--chat", "--max-new-tokens", 32)
        ask("rewrite-base", [model], "rewrite-test", *similar)
        for name in ("rewrite-completions", "rewrite-everything"):
            epochs = [out / name / "checkpoints" / f"step-{EPOCH * (i + 1):08d}" for i in range(N_EPOCHS)]
            ask(f"{name}-epochs", epochs, "rewrite-test", *similar, "--base", model, "--combine", "join")
    ask("words-0", [model], "words-test", *words, "--prefix", TASK)
    ask("words-0-no-prefix", [model], "words-test", *words)
    shots = ("--shots-from", sets / "words-train.jsonl")
    ask("words-4", [model], "words-test", *words, "--prefix", TASK, "--shots", 4, *shots)
    ask("words-4-no-prefix", [model], "words-test", *words, "--shots", 4, *shots)
    ask("choices-0", [model], "choices-test", "--score", "choice", "--chat")
    code = ("--score", "code", "--chat", "--max-new-tokens", 96)
    ask("code-0", [model], "code-test", *code)
    ask("code-2", [model], "code-test", *code, "--shots", 2, "--shots-from", sets / "code-train.jsonl")
    ask("words-4-of-5", [model], "words-test", *words, "--shots", 4, *shots, "--predictions", 5, "--temperature", 0.7)
    mixed = ["rewrite-train.jsonl", "words-train.jsonl"]
    train("mix-both", mixed, "--loss", "last_output")
    train("mix-words-alone", mixed[1:], "--loss", "last_output")
    for name in ("mix-both", "mix-words-alone", "rewrite-completions"):
        ask(f"{name}-on-words", [out / name / "best"], "words-test", *words, "--base", model)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/prompts"))
    parser.add_argument("--model", type=Path, default=Path(".data/real-model"))
    parser.add_argument("--embeddings", type=Path, default=None)
    parser.add_argument("--wrap", nargs="*", default=[], help="words before every command")
    options = parser.parse_args()
    subprocess.run([sys.executable, "benchmarks/prompt_sets.py", str(options.out / "sets")], check=True)
    commands = jobs(options.out, options.model, options.embeddings)
    for name, command in commands.items():
        done = options.out / f"{name}.done"
        if not done.exists():
            begun = time.monotonic()
            subprocess.run([*options.wrap, *command], check=True)
            done.write_text(f"{time.monotonic() - begun:.0f}")
    print(json.dumps({name: result(options.out / name) for name in commands}))


def result(folder: Path) -> dict[str, Any]:
    """The table of an evaluation, or the validation losses of a training."""
    if (folder / "summary.json").exists():
        summary = json.loads((folder / "summary.json").read_text())
        return {key: summary[key] for key in ("data", "metric", "n", "results", "compared_with_first")}
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = {row["step"]: round(row["validation_loss"], 4) for row in rows if "validation_loss" in row}
    return {"validation_loss": losses, "seconds": rows[-1].get("seconds")}


if __name__ == "__main__":
    main()
