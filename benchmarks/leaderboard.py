"""The editions of the model in the box, as docs/results.md shows them: benchmarks/results/leaderboard.json as a table.

    python benchmarks/leaderboard.py
    python benchmarks/leaderboard.py --add out/evaluate/evaluation.json --edition "2: with coordinates" \\
        --date 2026-11-22 --commit 1234567

Each row is a checkpoint under a recipe with test-time fine-tuning beside the same without it, by `arc-kaggle evaluate`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from arc_kaggle.evaluation.columns import Column, Evaluation, Way
from arc_kaggle.evaluation.comparison import NO_TUNING, compare
from arc_kaggle.evaluation.report import share
from arc_kaggle.evaluation.statistics import Paired

BOARD = Path(__file__).parent / "results" / "leaderboard.json"
HEAD = (
    "| edition | trained tokens | tasks | without TTFT | TTFT, one view | TTFT + AIRV "
    "| with rules, as submitted | TTFT against none | AIRV against one view |\n|---|--:|---|---|---|---|---|---|---|"
)
Entry = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", type=Path, metavar="EVALUATION", help="an evaluation.json whose rows are added")
    for name in ("edition", "date", "commit"):
        parser.add_argument(f"--{name}", default="", help="of the rows that are added")
    options = parser.parse_args()
    entries: list[Entry] = json.loads(BOARD.read_text(encoding="utf-8"))
    if options.add:
        about = {"edition": options.edition, "date": options.date, "commit": options.commit}
        if not all(about.values()):
            parser.error("--add wants --edition, --date and --commit")
        entries += [{**about, **entry} for entry in entries_of(Evaluation.read(options.add))]
        BOARD.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(leaderboard_table(entries))


def entries_of(evaluation: Evaluation) -> list[Entry]:
    """What the table says of every tuned column that stands beside one without tuning."""
    columns = evaluation.columns
    pairs = [(a, b) for a in columns for b in columns if a.checkpoint == b.checkpoint and b.recipe == NO_TUNING]
    return [_entry(evaluation, tuned, plain) for tuned, plain in pairs if tuned is not plain]


def _entry(evaluation: Evaluation, tuned: Column, plain: Column) -> Entry:
    return {
        "recipe": tuned.recipe,
        "tokens": tuned.tokens,
        "tasks": evaluation.tasks,
        "n_tasks": tuned.n_tasks,
        "n_whole": evaluation.n_whole,
        "versions": evaluation.made_with["versions"],
        "machine": evaluation.made_with["machine"],
        "tune_seconds": round(tuned.tune_seconds, 2),
        "infer_seconds": round(tuned.infer_seconds, 2),
        "solved": {
            "none": _counts(plain, "two_attempts"),
            "one_view": _counts(tuned, "one_view"),
            "airv": _counts(tuned, "two_attempts"),
            "submitted": _counts(tuned, "submitted"),
        },
        "ttft": _counts_of(compare("TTFT", tuned, plain).outputs),
        "airv": _counts_of(compare("AIRV", tuned, tuned, "two_attempts", "one_view").outputs),
    }


def _counts(column: Column, way: Way) -> list[int]:
    return [column.count(way), len(column.outputs)]


def _counts_of(paired: Paired) -> list[int]:
    return [paired.n, paired.both, paired.only_first, paired.only_second]


def leaderboard_table(entries: list[Entry]) -> str:
    """The table in Markdown, the newest edition last; nothing where there is no entry."""
    return "\n".join([HEAD, *map(_row, entries)]) if entries else ""


def _row(entry: Entry) -> str:
    ways = ("none", "one_view", "airv", "submitted")
    solved = [share(*entry["solved"][way]) if way in entry["solved"] else "" for way in ways]
    uplifts = [_uplift(Paired(*entry[name])) for name in ("ttft", "airv")]
    tokens = "" if entry["tokens"] is None else f"{entry['tokens'] / 1e6:.1f}M"
    tasks = f"{entry['n_tasks']} of the {entry['n_whole']} of {entry['tasks']}"
    return f"| {' | '.join([entry['edition'], tokens, tasks, *solved, *uplifts])} |"


def _uplift(paired: Paired) -> str:
    return f"{100 * paired.uplift:+.1f} points of {paired.n} (p {paired.p_value:.1g})"


if __name__ == "__main__":
    main()
