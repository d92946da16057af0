"""The figure of a study: the scores of every row with their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arc_kaggle.evaluation.study.table import StudyRow

SHOWN = {"accuracy": "o", "pass_n": "^", "vote_2": "s", "correct_pixels": "D", "unanswered": "x"}
"""Scores in the figure, with their markers."""


def draw_rows(rows: Sequence[StudyRow], title: str, path: Path) -> None:
    """Write an SVG file: a row a place on the x axis, a curve a score."""
    import matplotlib
    from matplotlib.figure import Figure

    options: dict[Any, Any] = {"svg.hashsalt": "arc_kaggle", "svg.fonttype": "none"}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(max(6.0, 0.7 * len(rows) + 2), 4.5), layout="constrained")
        axes = figure.subplots()
        for name, marker in SHOWN.items():
            scores = [row.mean(name) for row in rows]
            means = [100 * score.mean for score in scores]
            below = [100 * (score.mean - score.low) for score in scores]
            above = [100 * (score.high - score.mean) for score in scores]
            axes.errorbar(range(len(rows)), means, [below, above], marker=marker, capsize=3, label=name)
        axes.set_xticks(range(len(rows)), [row.name for row in rows], rotation=30, ha="right")
        axes.set(title=title, ylabel="per cent, 95% interval", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, metadata={"Date": None})
