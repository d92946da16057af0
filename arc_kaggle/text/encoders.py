"""Grid <-> text, exactly reversible. Decoding is strict: what does not parse has a named reason and never votes.

An encoder is written as a spec, outermost first and joined by `+`: `shape+rows+minimal`, or in the form of arc24's
configs: `GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))`. Both mean the same. From the inside out:

    cells    minimal  repeat(3)  separated('|')  colours                    one line a row
    symbols  replace('ñò÷ûąćďęĚĞ')+...                         around minimal, repeat or separated
    lines    rows+...                                          around cells or symbols
    fence    block+...  shape+...                              around any of these

Formats: ironbar's arc24 and arc25, ARChitects 2024, NVARC 2025. `decode` accepts the texts of
`encode` and no others: `encode(decode(text)) == text` whenever `decode` returns.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

import numpy as np

from arc_kaggle.errors import ConfigError, DecodeError
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid

CELL_REASONS = ("empty", "unknown_symbol", "repetition", "ragged_rows", "over_30")
LINE_REASONS = ("row_number_missing", "row_number_wrong")
FENCE_REASONS = ("bad_header", "shape_mismatch", "truncated", "trailing_text")
DECODE_REASONS = (*CELL_REASONS, *LINE_REASONS, *FENCE_REASONS)

DIGITS = tuple("0123456789")
COLOUR_NAMES = ("Black", "Blue", "Red", "Green", "Yellow", "Gray", "Pink", "Orange", "Purple", "Brown")
ARC24_SYMBOLS = "ñò÷ûąćďęĚĞ"
FENCE = "```"


class GridEncoder(Protocol):
    """A reversible text form of a grid. Encoders are frozen values, equal when their specs are."""

    prefix: ClassVar[str]
    """What every text begins with, so that a prompt can prefill it; `decode` wants it in the text."""

    @property
    def spec(self) -> str:
        """The canonical spec. Every value is written out: a saved spec does not depend on defaults."""
        ...

    def encode(self, grid: Grid) -> str:
        """The text of a grid, shape (height, width)."""
        ...

    def decode(self, text: str) -> Grid:
        """The grid of a text that `encode` could have made; raises DecodeError for every other text."""
        ...


@dataclass(frozen=True, slots=True)
class MinimalGridEncoder:
    """One digit a cell, one line a row: `012\\n345` (ARChitects 2024, NVARC 2025)."""

    prefix: ClassVar[str] = ""
    spec: ClassVar[str] = "minimal"

    def encode(self, grid: Grid) -> str:
        return _write(grid, DIGITS)

    def decode(self, text: str) -> Grid:
        return _read(text, DIGITS, tuple)


@dataclass(frozen=True, slots=True)
class RepeatNumberEncoder:
    """Every digit n times: `000111222` (arc24). Three make one token where a tokenizer merges runs of three digits."""

    n: int = 3
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if type(self.n) is not int or not 1 <= self.n <= 9:
            raise ConfigError(f"repeat: found n = {self.n!r}, expected an integer 1..9")

    @property
    def spec(self) -> str:
        return f"repeat({self.n})"

    def encode(self, grid: Grid) -> str:
        return _write(grid, [digit * self.n for digit in DIGITS])

    def decode(self, text: str) -> Grid:
        symbols = [digit * self.n for digit in DIGITS]
        for y, row in enumerate(text.split("\n")):
            if cell := next((c for c in self._cells(row) if c not in symbols and set(c) <= set(DIGITS)), None):
                raise DecodeError("repetition", f"row {y}: found {cell!r}, expected one digit {self.n} times")
        return _read(text, symbols, self._cells)

    def _cells(self, row: str) -> list[str]:
        return [row[x : x + self.n] for x in range(0, len(row), self.n)]


@dataclass(frozen=True, slots=True)
class GridWithSeparationEncoder:
    """A separator between the digits of a row: `0|1|2` (arc24)."""

    separator: str = "|"
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        text = self.separator
        if not isinstance(text, str) or not text or set(text) & {*DIGITS, "\n"}:
            raise ConfigError(f"separated: found {text!r}, expected a separator without digits or newlines")

    @property
    def spec(self) -> str:
        return f"separated({self.separator!r})"

    def encode(self, grid: Grid) -> str:
        return _write(grid, DIGITS, self.separator)

    def decode(self, text: str) -> Grid:
        return _read(text, DIGITS, lambda row: row.split(self.separator) if row else [])


@dataclass(frozen=True, slots=True)
class ColourNameEncoder:
    """The names of the colours: `Black Blue Red` (arc25, BARC)."""

    prefix: ClassVar[str] = ""
    spec: ClassVar[str] = "colours"

    def encode(self, grid: Grid) -> str:
        return _write(grid, COLOUR_NAMES, " ")

    def decode(self, text: str) -> Grid:
        return _read(text, COLOUR_NAMES, lambda row: row.split(" ") if row else [])


_DIGIT_ENCODERS = (MinimalGridEncoder, RepeatNumberEncoder, GridWithSeparationEncoder)


@dataclass(frozen=True, slots=True)
class ReplaceNumberEncoder:
    """Ten other characters in place of the digits, by colour: `ñò÷` (arc24)."""

    inner: GridEncoder
    symbols: str = ARC24_SYMBOLS
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_wraps(self, self.inner, _DIGIT_ENCODERS)
        found, taken = self.symbols, getattr(self.inner, "separator", "") + "`"
        fit = isinstance(found, str) and [s for s in dict.fromkeys(found) if not s.isspace() and s not in taken]
        if not fit or len(fit) != N_COLOURS or len(found) != N_COLOURS:
            raise ConfigError(
                f"replace: found {found!r}, expected ten distinct characters, no space and none of {taken!r}"
            )

    @property
    def spec(self) -> str:
        return f"replace({self.symbols!r})+{self.inner.spec}"

    def encode(self, grid: Grid) -> str:
        return self.inner.encode(grid).translate(str.maketrans("".join(DIGITS), self.symbols))

    def decode(self, text: str) -> Grid:
        if stray := next((s for s in text if s in DIGITS and s not in self.symbols), None):
            raise DecodeError("unknown_symbol", f"found {stray!r}, expected one of {self.symbols!r}")
        return self.inner.decode(text.translate(str.maketrans(self.symbols, "".join(DIGITS))))


_CELL_ENCODERS = (*_DIGIT_ENCODERS, ColourNameEncoder, ReplaceNumberEncoder)


@dataclass(frozen=True, slots=True)
class RowNumberEncoder:
    """The number of a row, counted from 1, before each row: `1 012\\n2 345` (arc24)."""

    inner: GridEncoder
    prefix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _check_wraps(self, self.inner, _CELL_ENCODERS)

    @property
    def spec(self) -> str:
        return f"rows+{self.inner.spec}"

    def encode(self, grid: Grid) -> str:
        rows = self.inner.encode(grid).split("\n")
        return "\n".join(f"{number} {row}" for number, row in enumerate(rows, start=1))

    def decode(self, text: str) -> Grid:
        lines = text.split("\n") if text else []
        return self.inner.decode("\n".join(_after_number(line, y) for y, line in enumerate(lines, start=1)))


_ROW_ENCODERS = (*_CELL_ENCODERS, RowNumberEncoder)


@dataclass(frozen=True, slots=True)
class GridCodeBlockEncoder:
    """A fence around the rows: ```` ```grid\\n012\\n345\\n``` ```` (arc24)."""

    inner: GridEncoder
    prefix: ClassVar[str] = "```grid"

    def __post_init__(self) -> None:
        _check_wraps(self, self.inner, _ROW_ENCODERS)

    @property
    def spec(self) -> str:
        return f"block+{self.inner.spec}"

    def encode(self, grid: Grid) -> str:
        return f"{self.prefix}\n{self.inner.encode(grid)}\n{FENCE}"

    def decode(self, text: str) -> Grid:
        _, body = _unfenced(text, re.compile(self.prefix))
        return self.inner.decode(body)


@dataclass(frozen=True, slots=True)
class GridShapeEncoder:
    """A fence that declares height x width: ```` ```grid shape: 2x3\\n012\\n345\\n``` ```` (arc24)."""

    inner: GridEncoder
    prefix: ClassVar[str] = "```grid"

    def __post_init__(self) -> None:
        _check_wraps(self, self.inner, _ROW_ENCODERS)

    @property
    def spec(self) -> str:
        return f"shape+{self.inner.spec}"

    def encode(self, grid: Grid) -> str:
        return f"{self.prefix} shape: {grid.shape[0]}x{grid.shape[1]}\n{self.inner.encode(grid)}\n{FENCE}"

    def decode(self, text: str) -> Grid:
        header, body = _unfenced(text, re.compile(self.prefix + " shape: [0-9]{1,9}x[0-9]{1,9}"))
        grid = self.inner.decode(body)
        if header != (expected := f"{self.prefix} shape: {grid.shape[0]}x{grid.shape[1]}"):
            raise DecodeError("shape_mismatch", f"found {header!r} above the rows of {expected!r}")
        return grid


ENCODERS: dict[str, type[Any]] = {
    "minimal": MinimalGridEncoder,
    "repeat": RepeatNumberEncoder,
    "separated": GridWithSeparationEncoder,
    "colours": ColourNameEncoder,
    "replace": ReplaceNumberEncoder,
    "rows": RowNumberEncoder,
    "block": GridCodeBlockEncoder,
    "shape": GridShapeEncoder,
}


def parse_encoder(spec: str) -> GridEncoder:
    """The encoder of a spec in either form. Nothing is evaluated. Raises ConfigError for what is not one."""
    try:
        return _build(ast.parse(spec.strip(), mode="eval").body, None)
    except (ConfigError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"encoder spec {spec[:80]!r}: {error}; a spec looks like shape+rows+minimal") from None


def cell_symbols(encoder: GridEncoder) -> tuple[str, ...]:
    """The ten texts of a cell, by colour, in the first place of a grid; a tokenizer should keep them apart."""
    while not isinstance(encoder, _CELL_ENCODERS):
        encoder = encoder.inner  # type: ignore[attr-defined]  # whatever is not cells wraps them
    return tuple(encoder.encode(np.full((1, 1), colour, dtype=np.int8)) for colour in range(N_COLOURS))


def _build(node: ast.expr, inner: GridEncoder | None) -> GridEncoder:
    """The encoder of a syntax tree. `a+b` and `a(b)` are the same: a around b; other arguments are plain values."""
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _build(left, _build(right, inner))
        case ast.Name(id=name):
            return _make(name, [], inner)
        case ast.Call(func=ast.Name(id=name), args=[first, *rest], keywords=[]) if not isinstance(first, ast.Constant):
            return _make(name, rest, _build(first, inner))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _make(name, args, inner)
    raise ConfigError(f"found {ast.unparse(node)!r}, expected names of encoders, each inside the one before it")


def _make(name: str, args: Sequence[ast.expr], inner: GridEncoder | None) -> GridEncoder:
    kind = _named(name)
    values = [arg.value for arg in args if isinstance(arg, ast.Constant)]
    takes = [field.name for field in fields(kind)]
    if ("inner" in takes) != (inner is not None):
        expected = "an encoder inside, as in shape+minimal" if inner is None else "nothing inside, it holds the cells"
        raise ConfigError(f"{name}: found {inner.spec if inner else 'nothing'} inside, expected {expected}")
    wrapped = [] if inner is None else [inner]
    if len(values) < len(args) or len(wrapped) + len(values) > len(takes):
        found = ", ".join(map(ast.unparse, args))
        raise ConfigError(f"{name}: found arguments ({found}), expected plain values for ({', '.join(takes)})")
    encoder: GridEncoder = kind(*wrapped, *values)
    return encoder


def _named(name: str) -> type[Any]:
    known = ENCODERS | {kind.__name__: kind for kind in ENCODERS.values()}
    if name not in known:
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ConfigError(f"found no encoder {name!r}, the nearest is {nearest!r}; there are {', '.join(ENCODERS)}")
    return known[name]


def _check_wraps(outer: GridEncoder, inner: GridEncoder, allowed: tuple[type, ...]) -> None:
    if not isinstance(inner, allowed):
        names = ", ".join(kind.__name__ for kind in allowed)
        raise ConfigError(f"{type(outer).__name__} cannot wrap {type(inner).__name__}, expected one of {names}")


def _write(grid: Grid, symbols: Sequence[str], separator: str = "") -> str:
    return "\n".join(separator.join([symbols[cell] for cell in row]) for row in grid.tolist())


def _read(text: str, symbols: Sequence[str], split: Callable[[str], Sequence[str]]) -> Grid:
    """The grid of lines that `split` cuts into cells; shape (height, width), read-only."""
    if not text:
        raise DecodeError("empty", "found no text, expected rows of cells")
    rows = [split(row) for row in text.split("\n")]
    for y, row in enumerate(rows):
        if (cell := next((c for c in row if c not in symbols), None)) is not None:
            raise DecodeError("unknown_symbol", f"row {y}: found {cell[:40]!r}, expected one of {' '.join(symbols)}")
        if len(row) != len(rows[0]) or not row:
            raise DecodeError("ragged_rows", f"row {y}: found {len(row)} cells, row 0 has {len(rows[0])}")
    if len(rows) > MAX_SIDE or len(rows[0]) > MAX_SIDE:
        raise DecodeError("over_30", f"found {len(rows)} x {len(rows[0])} cells, expected at most 30 x 30")
    grid = np.array([[symbols.index(cell) for cell in row] for row in rows], dtype=np.int8)
    grid.setflags(write=False)
    return grid


def _after_number(line: str, expected: int) -> str:
    number, space, cells = line.partition(" ")
    if space and number == str(expected):
        return cells
    reason = "row_number_wrong" if space and re.fullmatch("[0-9]+", number) else "row_number_missing"
    raise DecodeError(reason, f"line {expected}: found {line[:40]!r}, expected it to begin with '{expected} '")


def _unfenced(text: str, header_form: re.Pattern[str]) -> tuple[str, str]:
    """Header and body of a fenced text. Rows never begin with a backtick, so the first closing fence is the end."""
    header, _, rest = text.partition("\n")
    body, fence, tail = ("\n" + rest).partition("\n" + FENCE)
    if not text:
        raise DecodeError("empty", "found no text, expected a code block")
    if not header.startswith(FENCE) or (rest and not header_form.fullmatch(header)):
        raise DecodeError("bad_header", f"found {header[:40]!r}, expected {header_form.pattern!r}")
    if not fence:
        raise DecodeError("truncated", f"found {text[-40:]!r} at the end, expected a closing {FENCE}")
    if tail:
        raise DecodeError("trailing_text", f"found {tail[:40]!r} after the closing {FENCE}, expected nothing")
    return header, body[1:]
