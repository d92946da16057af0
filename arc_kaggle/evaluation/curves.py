"""The curves of an evaluation: solved test outputs over training steps, training tokens, and the number of views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from arc_kaggle.evaluation.columns import Column
from arc_kaggle.evaluation.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {"steps": "training steps", "tokens": "training tokens", "views": "views that vote"}


class Point(TypedDict):
    """`solved` of `n` test outputs, with two attempts, at `x`."""

    x: int
    solved: int
    n: int


Curves = dict[str, dict[str, list[Point]]]
"""By axis, then by the name of the curve."""


def curve_points(columns: Sequence[Column]) -> Curves:
    """Over steps and tokens a curve a training and recipe, where two checkpoints tell; over views a curve a column."""
    return {
        "steps": _over_training([(column.step, column) for column in columns]),
        "tokens": _over_training([(column.tokens, column) for column in columns]),
        "views": {column.name: _over_views(column) for column in columns},
    }


def _over_training(columns: Sequence[tuple[int | None, Column]]) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    for x, column in columns:
        if x is not None:
            point = Point(x=x, solved=column.count("two_attempts"), n=len(column.outputs))
            curves.setdefault(f"{column.series}/{column.recipe}", []).append(point)
    return {name: points for name, points in curves.items() if len(points) > 1}


def _over_views(column: Column) -> list[Point]:
    solved = (sum(column_of) for column_of in zip(*(output.by_views for output in column.outputs), strict=True))
    return [Point(x=x, solved=k, n=len(column.outputs)) for x, k in zip(column.views, solved, strict=True)]


def draw_curves(columns: Sequence[Column], title: str, path: Path) -> None:
    """Write a PNG or SVG file with a panel for each axis that has a curve; bars are 95% Wilson intervals."""
    from matplotlib.figure import Figure

    panels = {axis: curves for axis, curves in curve_points(columns).items() if curves}
    figure = Figure(figsize=(6 * len(panels), 4.5), layout="constrained")
    figure.suptitle(title)
    for axes, (axis, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name, points in curves.items():
            _draw(axes, name, points)
        axes.set(xlabel=AXES[axis], ylabel="test outputs solved with two attempts, %", ylim=(0, None))
        if axis == "views":
            axes.set_xticks(sorted({point["x"] for points in curves.values() for point in points}))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def _draw(axes: Axes, name: str, points: Sequence[Point]) -> None:
    shares = [100 * point["solved"] / point["n"] for point in points]
    bounds = [wilson(point["solved"], point["n"]) for point in points]
    below = [share - 100 * low for share, (low, _) in zip(shares, bounds, strict=True)]
    above = [100 * high - share for share, (_, high) in zip(shares, bounds, strict=True)]
    xs = [point["x"] for point in points]
    sizes = {point["n"] for point in points}
    label = f"{name}, n = {'..'.join(str(n) for n in sorted({min(sizes), max(sizes)}))}"
    axes.errorbar(xs, shares, [below, above], marker="o", capsize=3, label=label)
