"""Pictures of tasks, views and prompts: in the terminal, readable without colour too, and as SVG and PNG files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from rich.console import Console
from rich.text import Text

from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import Grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.tokens import NOT_TRAINED, Example, Tokenizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from collections.abc import Sequence

PALETTE = (
    *("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"),
    *("#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"),
)
"""The colours 0..9 as ARC's own pages show them."""

SUFFIXES = (".svg", ".png")
SYMMETRIES = (
    *("as given", "quarter turn left", "half turn", "quarter turn right"),
    *("transposed", "upside down", "transposed over the other diagonal", "mirrored left to right"),
)
DARK = (0, 1, 2, 6, 9)
"""Colours on which a digit is white."""

LAST_PLAIN = "\u024f"
"""Behind the Latin letters, which are one column wide and in every font, characters are shown as escapes."""

MAX_PIXELS = 40e6
PANEL, GAP, LINE = 1.9, 0.25, 0.2
"""Inches: the longer side of a drawn grid, the space between grids, the height of a line of text."""

FONT_POINTS = 9.0
LETTER = 0.602 * FONT_POINTS / 72
"""Inches: the width of a letter of the monospaced font."""


def view_title(task: Task, augmentation: Augmentation) -> str:
    """A title for `augmentation.apply_task(task)`: its symmetry, the colours that change, its order of train pairs."""
    changes = " ".join(f"{old}→{new}" for old, new in enumerate(augmentation.colours) if old != new)
    order = "as given" if augmentation.order is None else " ".join(map(str, augmentation.order))
    return f"{task!r} {SYMMETRIES[augmentation.symmetry]} | colours {changes or 'as given'} | order {order}"


# In the terminal ------------------------------------------------------------------------------------------------------


def task_to_terminal(task: Task, title: str = "", width: int = 80) -> Text:
    """A task, or a view, as text: every cell is its digit on its colour, an unknown output is `?`.

    An output stands beside its input where `width` columns allow it, else below. `.plain` is the text alone.
    """
    lines = [Text(title or repr(task), "bold")]
    for label, pair in _labelled_pairs(task):
        lines += [Text(), Text(label, "bold"), *_pair_lines(pair, width)]
    return Text("\n").join(lines)


def example_to_terminal(example: Example, tokenizer: Tokenizer, title: str = "", width: int = 80) -> Text:
    """A prompt token by token: `7*` is trained on and green, `7│` is only read; newlines are `↵`.

    Spaces are shown as `␣`, what is invisible or not Latin as escapes, special tokens in magenta.
    """
    lines = [Text(f"{_example_title(example, title)} | 7* trained, 7│ only read", "bold")]
    for tokens in _token_lines(example, tokenizer, width):
        lines.append(Text.assemble(*((token.text + "│*"[token.trained], token.style) for token in tokens)))
    return Text("\n").join(lines)


def print_text(text: Text, file: TextIO | None = None) -> None:
    """Print to a file or to stdout; with colours exactly where rich finds a terminal that wants them (NO_COLOR)."""
    Console(file=file).print(text, soft_wrap=True)


def _labelled_pairs(task: Task) -> Iterator[tuple[str, Pair]]:
    for part, pairs in (("train", task.train), ("test", task.test)):
        for index, pair in enumerate(pairs):
            yield f"{part} {index}: {_size(pair.input)} → {_size(pair.output)}", pair


def _size(grid: Grid | None) -> str:
    return "?" if grid is None else f"{grid.shape[0]}x{grid.shape[1]}"


def _pair_lines(pair: Pair, width: int) -> list[Text]:
    left, right = _grid_lines(pair.input), _grid_lines(pair.output)
    if len(left[0]) + len("  →  ") + len(right[0]) > width:
        return [*left, Text("↓"), *right]
    blank = Text(" " * len(left[0]))
    rows = enumerate(zip_longest(left, right, fillvalue=Text()))
    return [Text.assemble(a or blank, "     " if y else "  →  ", b) for y, (a, b) in rows]


def _grid_lines(grid: Grid | None) -> list[Text]:
    if grid is None:
        return [Text("?", "bold")]
    styles = [f"{'white' if colour in DARK else 'black'} on {PALETTE[colour]}" for colour in range(len(PALETTE))]
    return [Text.assemble(*((f"{cell} ", styles[cell]) for cell in row)) for row in grid.tolist()]


@dataclass(frozen=True, slots=True)
class _Token:
    """One token as it is shown."""

    text: str
    trained: bool
    special: bool

    @property
    def ends_line(self) -> bool:
        return self.special or self.text.endswith("↵")

    @property
    def style(self) -> str:
        if self.trained:
            return "bold magenta on green" if self.special else "bold black on green"
        return "bold magenta" if self.special else "dim"


def _token_lines(example: Example, tokenizer: Tokenizer, width: int) -> list[list[_Token]]:
    """Tokens in lines of at most `width` letters, each with one letter more, to delimit it.

    A line ends after `↵` or a special token and where training begins or ends, so that cells stand in columns.
    """
    special = set(getattr(tokenizer, "all_special_ids", ()))
    shown = {token: _shown(token, tokenizer) for token in set(example.ids.tolist())}
    lines: list[list[_Token]] = [[]]
    for token_id, label in zip(example.ids.tolist(), example.labels.tolist(), strict=True):
        token = _Token(shown[token_id], label != NOT_TRAINED, token_id in special)
        if lines[-1] and _breaks(lines[-1], token, width):
            lines.append([])
        lines[-1].append(token)
    return lines


def _breaks(line: list[_Token], token: _Token, width: int) -> bool:
    too_long = sum(len(t.text) + 1 for t in (*line, token)) > width
    return too_long or line[-1].ends_line or line[-1].trained != token.trained


def _shown(token_id: int, tokenizer: Tokenizer) -> str:
    """A token's text with nothing invisible in it; its number where it has no text of its own."""
    text = tokenizer.decode([token_id])
    if not text or "\ufffd" in text:
        return f"<#{token_id}>"
    marks = {" ": "␣", "\n": "↵"}
    plain = (c if c.isprintable() and c <= LAST_PLAIN else c.encode("unicode_escape").decode() for c in text)
    return "".join(marks.get(c, shown) for c, shown in zip(text, plain, strict=True))


def _example_title(example: Example, title: str) -> str:
    counts = f"{len(example.ids)} tokens, {int((example.labels != NOT_TRAINED).sum())} trained"
    return f"{title} | {counts}" if title else counts


# As a file ------------------------------------------------------------------------------------------------------------


def draw_task(task: Task, path: str | Path, title: str = "") -> None:
    """Write a task, or a view, as an SVG or PNG file: inputs above, outputs below. Raises ConfigError."""
    pairs = list(_labelled_pairs(task))
    n_columns = min(len(pairs), max(6, math.isqrt(2 * len(pairs))))
    column, row = PANEL + GAP, 2 * PANEL + 4 * LINE
    width, height = n_columns * column + GAP, math.ceil(len(pairs) / n_columns) * row
    with _canvas(path, width, height, title or repr(task)) as axes:
        for i, (label, pair) in enumerate(pairs):
            x, y = GAP + i % n_columns * column, i // n_columns * row
            axes.text(x, y + LINE / 2, label, va="center", weight="bold" if label.startswith("test") else "normal")
            _draw_grid(axes, pair.input, x, y + LINE)
            axes.text(x + PANEL / 2, y + PANEL + 1.6 * LINE, "↓", ha="center", va="center")
            _draw_grid(axes, pair.output, x, y + PANEL + 2.2 * LINE)


def draw_example(example: Example, tokenizer: Tokenizer, path: str | Path, title: str = "") -> None:
    """Write a prompt token by token as an SVG or PNG file; trained tokens are white on green. Raises ConfigError.

    A long prompt goes on in the next column, so that the picture stays about as wide as it is high.
    """
    lines = _token_lines(example, tokenizer, width=70)
    column = (max(sum(len(token.text) + 1 for token in line) for line in lines) + 2) * LETTER
    n_columns = max(1, round(math.sqrt(len(lines) * LINE / column))) if len(lines) > 60 else 1
    n_rows = math.ceil(len(lines) / n_columns)
    width, height = 2 * LETTER + n_columns * column, n_rows * LINE
    with _canvas(path, width, height, f"{_example_title(example, title)} (white on green)") as axes:
        boxes = []
        for i, line in enumerate(lines):
            x, y = 2 * LETTER + i // n_rows * column, i % n_rows * LINE
            for token in line:
                boxes.append((token, x, y, (len(token.text) + 1) * LETTER))
                x += boxes[-1][3]
        _draw_boxes(axes, boxes)


@contextmanager
def _canvas(path: str | Path, width: float, height: float, title: str) -> Iterator[Axes]:
    """Axes whose unit is the inch, y downwards from below the title; written to `path` at the end."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"picture {path}: found suffix {path.suffix!r}, expected {' or '.join(SUFFIXES)}")
    import matplotlib
    from matplotlib.figure import Figure

    width = max(width, 4.0)
    headline = textwrap.wrap(title, int(width / LETTER) - 4)
    top = (len(headline) + 1) * LINE
    fonts: dict[Any, Any] = {"font.family": "monospace", "font.size": FONT_POINTS, "text.parse_math": False}
    with matplotlib.rc_context({**fonts, "svg.hashsalt": "arc_kaggle", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height + top), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, -top))
        axes.axis("off")
        axes.text(2 * LETTER, -top / 2, "\n".join(headline), va="center", weight="bold")
        yield axes
        dpi = min(120.0, math.sqrt(MAX_PIXELS / (width * (height + top))))
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, metadata=metadata)


def _draw_grid(axes: Axes, grid: Grid | None, x: float, y: float) -> None:
    if grid is None:
        axes.text(x + PANEL / 2, y + PANEL / 2, "?", ha="center", va="center", size=48, color="#888888")
        return
    from matplotlib.colors import ListedColormap

    side = PANEL / max(grid.shape)
    xs, ys = (start + side * np.arange(n + 1) for start, n in ((x, grid.shape[1]), (y, grid.shape[0])))
    colours = ListedColormap(PALETTE)
    axes.pcolormesh(xs, ys, grid, cmap=colours, vmin=-0.5, vmax=9.5, edgecolors="#555555", linewidth=0.5)


def _draw_boxes(axes: Axes, boxes: list[tuple[_Token, float, float, float]]) -> None:
    """Every token in a box of its own, given as (token, x, y, width)."""
    from matplotlib.collections import PolyCollection

    corners = [[(x, y), (x + w, y), (x + w, y + 0.9 * LINE), (x, y + 0.9 * LINE)] for _, x, y, w in boxes]
    fills = ["#1B7837" if token.trained else "#EEEEEE" for token, *_ in boxes]
    axes.add_collection(PolyCollection(corners, facecolors=fills, edgecolors="white"), autolim=False)
    for token, x, y, w in boxes:
        ink = "white" if token.trained else "#C51B7D" if token.special else "#333333"
        weight = "bold" if token.special else "normal"
        axes.text(x + w / 2, y + 0.45 * LINE, token.text, ha="center", va="center", color=ink, weight=weight)


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
