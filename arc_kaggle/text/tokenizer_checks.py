"""Checks of a tokenizer: cells of their own, answers that end, examples that teach something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from arc_kaggle.errors import PromptError
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair, Query, Task
from arc_kaggle.text.encoders import (
    GridCodeBlockEncoder,
    GridEncoder,
    GridShapeEncoder,
    MinimalGridEncoder,
    RowNumberEncoder,
    cell_symbols,
    parse_encoder,
)
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import query_prompt, with_answer
from arc_kaggle.text.tokens import NOT_TRAINED, Example, Tokenizer, each_token_ids, tokenize

CELL_SPECS = ("minimal", "repeat(3)", "separated('|')", "colours", "replace('ñò÷ûąćďęĚĞ')+minimal")
"""Ways to write cells that are tried where a tokenizer merges those asked for."""


def check_example(example: Example, notation: Notation, where: str, pad_id: int | None = None) -> None:
    """Refuse, before the first step, an example that would teach nothing or the wrong thing. Raises PromptError.

    It must have labels, the last of them the stop token, and fit `model_max_length`. A pad token equal to the stop
    token is no harm here: labels follow from spans, and padding has none whatever its id. It is harm only to a
    collator that finds padding by its id and unlabels the stop token with it; what is left then ends nowhere, which
    is what is refused. Give `pad_id`, and labels as a batch holds them, to be told so.
    """
    stop_text, tokenizer = notation.format.stop_text, notation.tokenizer
    labels, stop_id = example.labels[example.labels != NOT_TRAINED], notation.stop_id
    if len(example.ids) > (limit := notation.token_limit):
        raise PromptError(
            f"{where}: {len(example.ids)} tokens, expected at most the tokenizer's model_max_length {limit}; "
            "nothing is ever cut, so leave out train pairs, or lower the option for the longest prompt"
        )
    if not len(labels):
        raise PromptError(f"{where}: found no label in {len(example.ids)} tokens, expected some to train on")
    if labels[-1] != stop_id:
        hidden = "; the pad token is the stop token and hid it, so pad with another" if pad_id == stop_id else ""
        raise PromptError(
            f"{where}: the last label is {tokenizer.decode([int(labels[-1])])!r}, expected the stop token "
            f"{stop_text!r}: no answer would ever end{hidden}; check `end` and `stop` of the prompt format"
        )


def check_notation(notation: Notation) -> int:
    """The id of the stop token, where the tokenizer carries grids and answers of the format. Raises PromptError.

    The largest answer goes through tokens and back: it must come out whole, with one stop token, at its end.
    """
    check_cells(notation.tokenizer, notation.encoder)
    return check_answer(notation)


def check_answer(notation: Notation) -> int:
    """The same, of a notation whose cells are known to be kept apart. Raises PromptError."""
    stop_id, written = notation.stop_id, notation.encoder.encode
    rows = np.arange(MAX_SIDE) % N_COLOURS
    grid = np.add.outer(rows, rows).astype(np.int8) % N_COLOURS
    query = Query(Task("check", (Pair(grid[:2], grid[:1]),), (Pair(grid[:1], None),)), 0)
    example = tokenize(with_answer(query_prompt(query, notation), grid, notation), notation.tokenizer)
    check_example(example, notation, "prompt format")
    labels = example.labels[example.labels != NOT_TRAINED].tolist()
    found = notation.answer_text(notation.tokenizer.decode(labels))
    if found != written(grid) or labels.count(stop_id) != 1:
        raise PromptError(
            f"prompt format: an answer of {len(written(grid))} characters came back from its tokens as "
            f"{len(found)}, {found[-40:]!r} at its end, with {labels.count(stop_id)} stop tokens "
            f"{notation.format.stop_text!r}, expected the same text and 1; turn truncation and clean-up off in the "
            "tokenizer, or choose another end"
        )
    return stop_id


def check_cells(tokenizer: Tokenizer, encoder: GridEncoder | None = None) -> None:
    """Refuse a tokenizer that merges cells: an encoder needs a constant number of tokens a cell, always the same ones.

    Where it merges, the message names the encoders that keep cells apart. Raises PromptError.
    """
    encoder = encoder or MinimalGridEncoder()
    if merged := _first_merged(tokenizer, encoder):
        text, found, expected = merged
        fixes = ", ".join(other.spec for other in _fixes(tokenizer, encoder)) or "none of those known"
        raise PromptError(
            f"tokenizer: in {text!r} it makes the tokens {found}, expected {expected}: it merges cells of the encoder "
            f"{encoder.spec} with their neighbours, or they differ in length; encoders that fix it: {fixes}"
        )


def keeps_cells_apart(tokenizer: Tokenizer, encoder: GridEncoder) -> bool:
    """Whether `check_cells` passes, without a search for encoders that would."""
    try:
        return _first_merged(tokenizer, encoder) is None
    except PromptError:
        return False


Cut = list[str]
"""Tokens as they are decoded."""


def _first_merged(tokenizer: Tokenizer, encoder: GridEncoder) -> tuple[str, Cut, Cut] | None:
    """(a text, tokens found, tokens expected), as short as can be, where cells are not tokens of their own."""
    pieces, cells = _cell_pattern(encoder)
    ids_of = each_token_ids(cells, tokenizer)
    shortest = min(ids_of.values(), key=len)
    for cell, ids in ids_of.items():
        if len(ids) != len(shortest):
            return cell, _cut(ids, tokenizer), _cut(shortest, tokenizer)
    parts_of = {text: pieces.findall(text) for text in map(_rows_encoder(encoder).encode, _probes())}
    between = {piece for parts in parts_of.values() for piece in parts} - ids_of.keys()
    whole = each_token_ids([*parts_of, *sorted(between)], tokenizer)
    ids_of.update((piece, whole[piece]) for piece in between)
    for text, parts in parts_of.items():
        found = whole[text]
        if found != (apart := [token_id for piece in parts for token_id in ids_of[piece]]):
            at = next((i for i, (a, b) in enumerate(zip(found, apart, strict=False)) if a != b), len(apart))
            return text, _cut(found[at : at + 4], tokenizer), _cut(apart[at : at + 4], tokenizer)
    return None


def _cell_pattern(encoder: GridEncoder) -> tuple[re.Pattern[str], list[str]]:
    """What cuts rows into cells and what is between them, and every form of a cell."""
    cells = list(cell_symbols(encoder))
    if encoder.spec.endswith("colours"):  # a colour name has the space before it in its token
        cells += [f" {cell}" for cell in cells]
    a_cell = "|".join(map(re.escape, sorted(cells, key=len, reverse=True)))
    number = "(?:^|\n)[0-9]+|" if "rows+" in encoder.spec else ""
    return re.compile(f"{number}{a_cell}|(?:(?!{a_cell})[\\s\\S])+"), cells


def _probes() -> Iterator[Grid]:
    """Two cells of all colours beside each other and above each other, then a grid of every width."""
    for pair in product(range(N_COLOURS), repeat=2):
        yield np.array([pair], dtype=np.int8)
        yield np.array([pair], dtype=np.int8).T
    rng = np.random.default_rng(0)
    for width in range(1, MAX_SIDE + 1):
        yield rng.integers(0, N_COLOURS, size=(MAX_SIDE + 1 - width, width)).astype(np.int8)


def _cut(ids: Sequence[int], tokenizer: Tokenizer) -> Cut:
    return [tokenizer.decode([token_id]) for token_id in ids]


def _rows_encoder(encoder: Any) -> GridEncoder:
    """The encoder without its fence."""
    bare: GridEncoder = encoder.inner if isinstance(encoder, GridCodeBlockEncoder | GridShapeEncoder) else encoder
    return bare


def _fixes(tokenizer: Tokenizer, encoder: GridEncoder) -> Iterator[GridEncoder]:
    """The same lines and fence around other cells, where the tokenizer keeps those apart."""
    for spec in CELL_SPECS:
        other = _with_cells(encoder, parse_encoder(spec))
        if keeps_cells_apart(tokenizer, other):  # a closed vocabulary may not even have its characters
            yield other


def _with_cells(encoder: Any, cells: GridEncoder) -> GridEncoder:
    """The encoder with other cells inside."""
    if not isinstance(encoder, RowNumberEncoder | GridCodeBlockEncoder | GridShapeEncoder):
        return cells
    around: GridEncoder = replace(encoder, inner=_with_cells(encoder.inner, cells))
    return around
