"""Pictures: every cell has its colour, every trained token is marked, and nothing depends on colour alone."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from arc_kaggle.drawing import (
    PALETTE,
    SYMMETRIES,
    draw_example,
    draw_task,
    example_to_terminal,
    print_text,
    task_to_terminal,
    view_title,
)
from arc_kaggle.errors import ConfigError
from arc_kaggle.tasks.augmentation import Augmentation
from arc_kaggle.tasks.grid import as_grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.encoders import MinimalGridEncoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import training_prompt
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokens import Example, tokenize

SYMBOLS = ("<bos>", "<eos>", "I", "O", "\n", *"0123456789", " $x^2$ ", "ñ\x1b日", "")


class SymbolTokenizer:
    """One token a symbol; the last has no text of its own."""

    all_special_ids = (0, 1)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [SYMBOLS.index(symbol) for symbol in re.findall(r"<\w+>|[\s\S]", text)]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(SYMBOLS[i] for i in token_ids)


TOKENIZER = SymbolTokenizer()
COLOURS = as_grid([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
TASK = Task("t", (Pair(COLOURS, as_grid([[7]])), Pair(as_grid([[1, 2]]), as_grid([[3], [4]]))), (Pair(COLOURS, None),))


@pytest.fixture
def example() -> Example:
    notation = Notation(MinimalGridEncoder(), PromptFormat("<bos>", "I", "O", "<eos>"), TOKENIZER)
    return tokenize(training_prompt(TASK, notation), TOKENIZER)


def printed(text, tty: bool) -> str:
    file = io.StringIO()
    file.isatty = lambda: tty  # type: ignore[method-assign]
    print_text(text, file)
    return file.getvalue()


def pixels(path: Path) -> Counter[str]:
    from matplotlib.image import imread

    colours, counts = np.unique(
        (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3), axis=0, return_counts=True
    )
    return Counter({"#{:02X}{:02X}{:02X}".format(*c): int(n) for c, n in zip(colours, counts, strict=True)})


def svg_fills(path: Path) -> list[str]:
    """Fills of the cells in drawing order; SVG leaves out black, its default."""
    cells = re.findall(r'style="([^"]*stroke: #555555[^"]*)"', path.read_text(encoding="utf-8"))
    return [(re.search(r"fill: (#\w+)", cell) or ["", "#000000"])[1].upper() for cell in cells]


def test_a_task_in_the_terminal_is_readable_without_colour() -> None:
    assert [line.rstrip() for line in printed(task_to_terminal(TASK), tty=False).splitlines()] == [
        *("<Task t | 2 train | 1 test>", ""),
        *("train 0: 2x5 → 1x1", "0 1 2 3 4   →  7", "5 6 7 8 9", ""),
        *("train 1: 1x2 → 2x1", "1 2   →  3", "         4", ""),
        *("test 0: 2x5 → ?", "0 1 2 3 4   →  ?", "5 6 7 8 9"),
    ]


def test_an_output_that_does_not_fit_stands_below_and_is_never_wrapped() -> None:
    wide = as_grid([[8] * 30] * 30)
    lines = task_to_terminal(
        Task("wide", (Pair(wide, wide),), (Pair(as_grid([[1]]), None),)), width=80
    ).plain.splitlines()
    assert max(map(len, lines)) == 60
    assert lines.count("8 " * 30) == 60
    assert lines.count("↓") == 1


def test_a_terminal_gets_every_colour_of_the_palette(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = printed(task_to_terminal(TASK), tty=True)
    for digit, colour in enumerate(PALETTE):
        red, green, blue = bytes.fromhex(colour[1:])
        assert re.search(rf"48;2;{red};{green};{blue}m{digit} ", out)


def test_a_prompt_in_the_terminal_marks_its_trained_tokens(example: Example) -> None:
    header, *lines = printed(example_to_terminal(example, TOKENIZER, "t"), tty=False).splitlines()
    assert header == "t | 24 tokens, 4 trained | 7* trained, 7│ only read"
    assert lines == ["<bos>│", "I│0│1│2│3│4│↵│", "5│6│7│8│9│O│7│<eos>│", "I│1│2│O│", "3*↵*", "4*<eos>*"]


def test_odd_tokens_are_shown_and_lines_wrap() -> None:
    odd = Example(np.array([15, 16, 17, 5, 5]), np.full(5, -100))
    assert example_to_terminal(odd, TOKENIZER).plain.splitlines()[1:] == ["␣$x^2$␣│ñ\\x1b\\u65e5│<#17>│0│0│"]
    narrow = example_to_terminal(odd, TOKENIZER, width=18).plain.splitlines()
    assert narrow[1:] == ["␣$x^2$␣│", "ñ\\x1b\\u65e5│<#17>│", "0│0│"]


def test_a_drawn_task_has_the_colours_of_its_cells(tmp_path: Path) -> None:
    draw_task(TASK, tmp_path / "t.svg")
    cells = [*range(10), 7, 1, 2, 3, 4, *range(10)]
    assert svg_fills(tmp_path / "t.svg") == [PALETTE[cell] for cell in cells]
    assert ">?</text>" in (tmp_path / "t.svg").read_text(encoding="utf-8")
    one = Task("one", (Pair(as_grid([[c] * 4 for c in range(10)]), as_grid([[3]])),), (Pair(as_grid([[3]]), None),))
    draw_task(one, tmp_path / "deep" / "one.PNG", "a title")
    counts = pixels(tmp_path / "deep" / "one.PNG")
    areas = [counts[colour] for colour in PALETTE if colour not in ("#2ECC40", "#000000")]
    assert min(areas) > 1000 and max(areas) < 1.2 * min(areas)
    assert counts["#2ECC40"] > 50 * max(areas)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_drawn_prompt_has_a_green_box_for_each_trained_token(example: Example, tmp_path: Path, suffix: str) -> None:
    draw_example(example, TOKENIZER, tmp_path / f"all{suffix}")
    draw_example(Example(example.ids, np.full(24, -100)), TOKENIZER, tmp_path / f"none{suffix}")
    if suffix == ".png":
        assert pixels(tmp_path / "all.png")["#1B7837"] > 500
        assert pixels(tmp_path / "none.png")["#1B7837"] == 0
    else:
        text = (tmp_path / "all.svg").read_text(encoding="utf-8")
        assert (text.count("fill: #1b7837"), text.count("fill: #eeeeee")) == (4, 20)
        assert "fill: #1b7837" not in (tmp_path / "none.svg").read_text(encoding="utf-8")
        assert (text.count(">↵</text>"), text.count(">&lt;eos&gt;</text>")) == (2, 2)


@pytest.mark.parametrize("n_tokens", [0, 3, 1200])
def test_prompts_of_any_length_are_drawn_about_square(n_tokens: int, tmp_path: Path) -> None:
    ids = np.array([5, 4, 15] * 400)[:n_tokens]
    draw_example(Example(ids, ids), TOKENIZER, tmp_path / "p.svg")
    width, height = map(float, re.findall(r'(?:width|height)="([\d.]+)pt"', (tmp_path / "p.svg").read_text("utf-8")))
    assert 288 <= width < 2000 and 30 < height < 2000


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_picture_is_the_same_file(example: Example, tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        draw_task(TASK, tmp_path / f"task_{name}{suffix}")
        draw_example(example, TOKENIZER, tmp_path / f"example_{name}{suffix}")
    for kind in ("task", "example"):
        assert (tmp_path / f"{kind}_a{suffix}").read_bytes() == (tmp_path / f"{kind}_b{suffix}").read_bytes()


def test_an_unknown_suffix_names_those_that_work(example: Example, tmp_path: Path) -> None:
    for draw in (lambda p: draw_task(TASK, p), lambda p: draw_example(example, TOKENIZER, p)):
        with pytest.raises(ConfigError, match=r"found suffix '\.gif', expected \.svg or \.png"):
            draw(tmp_path / "no" / "t.gif")
    assert not list(tmp_path.iterdir())


def test_a_view_is_titled_by_its_augmentation() -> None:
    augmentation = Augmentation(2, (1, 0, *range(2, 10)), (1, 0))
    assert view_title(TASK, augmentation) == "<Task t | 2 train | 1 test> half turn | colours 0→1 1→0 | order 1 0"
    assert view_title(TASK, Augmentation()).endswith("as given | colours as given | order as given")


def test_symmetries_are_named_as_they_look() -> None:
    corners = as_grid([[1, 2], [3, 4]])
    looks = [Augmentation(symmetry).apply(corners).ravel().tolist() for symmetry in range(8)]
    assert dict(zip(SYMMETRIES, looks, strict=True)) == {
        "as given": [1, 2, 3, 4],
        "quarter turn left": [2, 4, 1, 3],
        "half turn": [4, 3, 2, 1],
        "quarter turn right": [3, 1, 4, 2],
        "transposed": [1, 3, 2, 4],
        "upside down": [3, 4, 1, 2],
        "transposed over the other diagonal": [4, 2, 3, 1],
        "mirrored left to right": [2, 1, 4, 3],
    }


def test_importing_show_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, arc_kaggle.drawing; sys.exit(bool({'torch', 'matplotlib'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
