"""A contact sheet: many rules on one picture, some pairs of each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from arc_kaggle.show import GAP, LETTER, LINE, PANEL, _canvas, _draw_grid
from arc_kaggle.task import Pair


def draw_sheet(rules: Sequence[tuple[str, Sequence[Pair]]], path: str | Path, title: str) -> None:
    """Write (name, pairs) of rules as an SVG or PNG file: inputs above, outputs below. Raises ConfigError."""
    n_pairs = max(len(pairs) for _, pairs in rules)
    n_columns = math.ceil(math.sqrt(len(rules) * 4 / (3 * n_pairs)))  # about as wide as it is high
    column, row = n_pairs * (PANEL + GAP) + 2 * GAP, 2 * PANEL + 4 * LINE
    width, height = n_columns * column, math.ceil(len(rules) / n_columns) * row
    with _canvas(path, width, height, title) as axes:
        for i, (name, pairs) in enumerate(rules):
            left, y = GAP + i % n_columns * column, i // n_columns * row
            label = textwrap.shorten(name, int(column / LETTER) - 4, placeholder=" ...")
            axes.text(left, y + LINE / 2, label, va="center", weight="bold")
            for j, pair in enumerate(pairs):
                x = left + j * (PANEL + GAP)
                _draw_grid(axes, pair.input, x, y + LINE)
                _draw_grid(axes, pair.output, x, y + PANEL + 1.6 * LINE)
