"""An evaluation as text and as JSON; every share comes with its n and its 95% interval, every slice with its whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arc_kaggle.evaluation.columns import Column, Evaluation, Way
from arc_kaggle.evaluation.comparison import Comparison, best_of, by_training, compare, comparisons
from arc_kaggle.evaluation.curves import curve_points
from arc_kaggle.evaluation.statistics import LEAST_TESTED, Paired, wilson

WAYS: tuple[tuple[Way, str], ...] = (
    ("submitted", "as submitted"),
    ("two_attempts", "two attempts"),
    ("one_attempt", "one attempt"),
    ("one_view", "one view"),
    ("any_view", "any view"),
)
LEGEND = (
    "Solved of the test outputs of the tasks done, per cent, 95% Wilson interval. As submitted: what Kaggle counts,\n"
    "simple rules included; all else is the model's alone. One view: view 0. Any view: pass_n. Whole tasks: all\n"
    "outputs, two attempts. Seconds a task: TTFT + inference."
)
MEASURES = ("accuracy", "correct_pixels", "correct_size", "unanswered")
"""Scores of single answers, as `solve` reports them."""
MEASURES_LEGEND = (
    "Single answers, per cent of all views, 95% bootstrap interval. accuracy: equal to the answer. correct_pixels:\n"
    "right cells, none where the size is wrong. correct_size: right size. unanswered: views without a grid."
)
TOO_FEW = f"- stands where fewer than {LEAST_TESTED} were compared, which are too few for a test."
PAIRED_LEGEND = (
    "Paired comparisons: points of the first over the second, what each alone solved, exact two-sided McNemar p, 95%\n"
    "interval of the odds of the first to the second. Tasks are independent of each other, outputs of one task are not."
)


def share(k: int, n: int) -> str:
    """`34/419 8.1% (5.9..11.2)`: how many of how many, and the 95% interval of the share."""
    low, high = wilson(k, n)
    return f"{k}/{n} {100 * k / max(1, n):.1f}% ({100 * low:.1f}..{100 * high:.1f})"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def evaluation_text(evaluation: Evaluation) -> str:
    """The scores, then the comparisons within the evaluation."""
    scores = scores_text(evaluation)
    return f"{scores}\n\n{comparisons_text(comparisons(evaluation.columns))}" if evaluation.columns else scores


def scores_text(evaluation: Evaluation) -> str:
    """Which tasks, the table, why views gave nothing, last against best."""
    columns = evaluation.columns
    if not columns:
        return f"{scope(evaluation)}\nnothing is through yet"
    answers = f"{MEASURES_LEGEND}\n\n{measures_table(columns)}"
    reasons = "\n".join(map(_reasons, columns))
    parts = [scope(evaluation), LEGEND, _table(evaluation), answers, reasons, last_and_best(columns)]
    return "\n\n".join(part for part in parts if part)


def scope(evaluation: Evaluation) -> str:
    """Which tasks an evaluation is of; a slice is never named without its whole."""
    if evaluation.n_selected == evaluation.n_whole:
        which = f"all {evaluation.n_whole} tasks of {evaluation.tasks}"
    else:
        which = (
            f"{evaluation.n_selected} of the {evaluation.n_whole} tasks of {evaluation.tasks} "
            f"(--select {evaluation.select})"
        )
    return f"{which}{'' if evaluation.is_complete else '; NOT ALL DONE: see the tasks of each row'}"


def _table(evaluation: Evaluation) -> str:
    head = ["checkpoint/recipe", "tasks done", *dict(WAYS).values(), "whole tasks", "seconds"]
    return aligned([head, *(_row(column, evaluation.n_whole) for column in evaluation.columns)])


def _row(column: Column, n_whole: int) -> list[str]:
    n, tasks = len(column.outputs), column.solved_tasks("two_attempts").values()
    shares = [share(column.count(way), n) for way, _ in WAYS] + [share(sum(tasks), len(tasks))]
    seconds = f"{column.tune_seconds:.1f} + {column.infer_seconds:.1f}"
    return [column.name, f"{column.n_tasks} of {n_whole}", *shares, seconds]


def measures_table(columns: Sequence[Column]) -> str:
    """How good the answers of all views are; `-` where an evaluation of old did not measure it."""
    rows = [[column.name, *(_measure(column.scores.get(name)) for name in MEASURES)] for column in columns]
    return aligned([["checkpoint/recipe", *MEASURES], *rows])


def _measure(score: Mapping[str, float] | None) -> str:
    return f"{100 * score['mean']:.1f}% ({100 * score['low']:.1f}..{100 * score['high']:.1f})" if score else "-"


def _reasons(column: Column) -> str:
    n_views = len(column.outputs) * column.views[-1]
    reasons = ", ".join(f"{reason} {n}" for reason, n in column.unanswered.items()) or "none"
    outcomes = ", ".join(f"{outcome} {n}" for outcome, n in column.outcomes.items())
    return (
        f"{column.name}: of {n_views} views unanswered by reason: {reasons}; of {column.n_tasks} tasks by fine-tuning: "
        f"{outcomes}"
    )


def last_and_best(columns: Sequence[Column]) -> str:
    """The last checkpoint of a training beside its best, a line for each recipe that several checkpoints have."""
    return "\n".join(_last_and_best(training) for training in by_training(columns) if len(training) > 1)


def _last_and_best(columns: Sequence[Column]) -> str:
    last, best = columns[-1], best_of(columns)
    line = f"{last.series}/{last.recipe}: of {len(columns)} checkpoints the last, {_scored(last)}, is"
    if best is last:
        return f"{line} the best"
    lead = 100 * compare("", best, last).outputs.uplift
    if round(lead, 1) == 0:
        return f"{line} as good as the best, {_scored(best)}"
    return (
        f"{line} behind the best, {_scored(best)}, by {lead:.1f} points; these very outputs picked the best, which "
        "flatters its lead and the p value of it"
    )


def _scored(column: Column) -> str:
    return f"{column.name} {share(column.count('two_attempts'), len(column.outputs))}"


def comparisons_text(found: Sequence[Comparison]) -> str:
    """Two lines each: by test outputs and by whole tasks."""
    head = ["what", "first", "second", "of", "points", "only first", "only second", "p", "odds"]
    by_unit = [((c, c.outputs, "outputs"), (c, c.tasks, "tasks")) for c in found]
    table = aligned([head, *(_paired_row(*row) for rows in by_unit for row in rows)])
    are_few = any(not paired.is_tested for rows in by_unit for _, paired, _ in rows)
    return f"{PAIRED_LEGEND}\n\n{table}" + (f"\n{TOO_FEW}" if are_few else "")


def _paired_row(comparison: Comparison, paired: Paired, unit: str) -> list[str]:
    low, high = paired.odds
    names = [comparison.subject, comparison.first, comparison.second, f"{paired.n} {unit}"]
    counts = [f"{100 * paired.uplift:+.1f}", str(paired.only_first), str(paired.only_second)]
    tests = [f"{paired.p_value:.2g}", f"{low:.2f}..{high:.2f}"] if paired.is_tested else ["-", "-"]
    return [*names, *counts, *tests]


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """What `Evaluation.read` reads, and beside it all that the text says, as numbers."""
    columns = evaluation.columns
    return {
        "scope": scope(evaluation),
        "summary": {column.name: summary(column) for column in columns},
        "comparisons": [comparison_json(comparison) for comparison in comparisons(columns)],
        "curves": curve_points(columns),
        **evaluation.to_json(),
    }


def summary(column: Column) -> dict[str, Any]:
    """Counts with n and 95% interval, by way, and by whole tasks."""
    tasks = column.solved_tasks("two_attempts").values()
    by_way = {str(way): (column.count(way), len(column.outputs)) for way, _ in WAYS}
    counts = {**by_way, "whole_tasks": (sum(tasks), len(tasks))}
    return {name: {"solved": k, "n": n, "interval_95": wilson(k, n)} for name, (k, n) in counts.items()}


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    plain = {"subject": comparison.subject, "first": comparison.first, "second": comparison.second}
    return {**plain, "outputs": comparison.outputs.to_json(), "tasks": comparison.tasks.to_json()}
