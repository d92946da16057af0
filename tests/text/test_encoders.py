"""Every encoder: round trip, golden texts, both forms of its spec, and a named reason for every text it refuses."""

from __future__ import annotations

import inspect
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arc_kaggle.errors import ConfigError, DecodeError
from arc_kaggle.tasks.grid import Grid, as_grid, same_grid
from arc_kaggle.text import encoders as module
from arc_kaggle.text.encoders import (
    DECODE_REASONS,
    ENCODERS,
    GridCodeBlockEncoder,
    GridEncoder,
    GridShapeEncoder,
    GridWithSeparationEncoder,
    MinimalGridEncoder,
    RepeatNumberEncoder,
    ReplaceNumberEncoder,
    RowNumberEncoder,
    cell_symbols,
    parse_encoder,
)

GRID = as_grid([[0, 1, 2], [3, 4, 5]])

# canonical spec -> (the same in arc24's form, the text of GRID); the outermost encoder of each line is what it tests
GOLDEN = {
    "minimal": ("MinimalGridEncoder()", "012\n345"),
    "repeat(3)": ("RepeatNumberEncoder(3)", "000111222\n333444555"),
    "repeat(1)": ("RepeatNumberEncoder(1)", "012\n345"),
    "separated('|')": ("GridWithSeparationEncoder('|')", "0|1|2\n3|4|5"),
    "separated(' ')": ('GridWithSeparationEncoder(" ")', "0 1 2\n3 4 5"),
    "separated(', ')": ("GridWithSeparationEncoder(', ')", "0, 1, 2\n3, 4, 5"),
    "colours": ("ColourNameEncoder()", "Black Blue Red\nGreen Yellow Gray"),
    "replace('ñò÷ûąćďęĚĞ')+minimal": ("ReplaceNumberEncoder(MinimalGridEncoder())", "ñò÷\nûąć"),
    "replace('ñò÷ûąćďęĚĞ')+repeat(2)": ("ReplaceNumberEncoder(RepeatNumberEncoder(2))", "ññòò÷÷\nûûąąćć"),
    "replace('abcdefghij')+separated('|')": (
        "ReplaceNumberEncoder(GridWithSeparationEncoder('|'), 'abcdefghij')",
        "a|b|c\nd|e|f",
    ),
    "replace('1234567890')+minimal": ("ReplaceNumberEncoder(MinimalGridEncoder(), '1234567890')", "123\n456"),
    "rows+minimal": ("RowNumberEncoder(MinimalGridEncoder())", "1 012\n2 345"),
    "rows+separated(' ')": ("RowNumberEncoder(GridWithSeparationEncoder(' '))", "1 0 1 2\n2 3 4 5"),
    "rows+colours": ("RowNumberEncoder(ColourNameEncoder())", "1 Black Blue Red\n2 Green Yellow Gray"),
    "block+minimal": ("GridCodeBlockEncoder(MinimalGridEncoder())", "```grid\n012\n345\n```"),
    "block+rows+repeat(3)": (
        "GridCodeBlockEncoder(RowNumberEncoder(RepeatNumberEncoder(3)))",
        "```grid\n1 000111222\n2 333444555\n```",
    ),
    "shape+minimal": ("GridShapeEncoder(MinimalGridEncoder())", "```grid shape: 2x3\n012\n345\n```"),
    "shape+rows+minimal": (
        "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
        "```grid shape: 2x3\n1 012\n2 345\n```",
    ),
    "shape+rows+replace('ñò÷ûąćďęĚĞ')+minimal": (
        "GridShapeEncoder(RowNumberEncoder(ReplaceNumberEncoder(MinimalGridEncoder())))",
        "```grid shape: 2x3\n1 ñò÷\n2 ûąć\n```",
    ),
}
EXAMPLES = {spec: parse_encoder(spec) for spec in GOLDEN}

# reason -> texts that are refused for it
REFUSED = {
    "empty": [("minimal", ""), ("rows+minimal", ""), ("block+minimal", ""), ("block+minimal", "```grid\n```")],
    "unknown_symbol": [
        ("minimal", "01a\n345"),
        ("minimal", "01\u0662\n345"),  # a digit of another script
        ("minimal", "012\r\n345"),
        ("repeat(3)", "000xxx222"),
        ("separated('|')", "0|1|"),
        ("separated('|')", "01|2"),
        ("separated(', ')", "0,1"),
        ("colours", "Black Blu"),
        ("colours", "black"),
        ("replace('ñò÷ûąćďęĚĞ')+minimal", "ñò2"),
        ("block+minimal", "```grid\n 012\n```"),
    ],
    "repetition": [("repeat(3)", "000110"), ("repeat(3)", "00011"), ("block+repeat(3)", "```grid\n0123\n```")],
    "ragged_rows": [
        ("minimal", "012\n34"),
        ("minimal", "012\n"),
        ("minimal", "\n"),  # all rows are equally long, but no cells
        ("rows+minimal", "1 \n2 "),
        ("separated('|')", "\n0"),
        ("colours", "Red\n\nRed"),
    ],
    "over_30": [
        ("minimal", "0" * 31),
        ("minimal", "\n".join("0" * 31)),
        ("shape+minimal", f"```grid shape: 1x31\n{'0' * 31}\n```"),
        ("rows+minimal", "\n".join(f"{y} 0" for y in range(1, 32))),
    ],
    "row_number_missing": [("rows+minimal", "012\n345"), ("rows+minimal", "1 012\n2"), ("rows+colours", "Black Blue")],
    "row_number_wrong": [
        ("rows+minimal", "0 012\n1 345"),
        ("rows+minimal", "1 012\n3 345"),
        ("rows+minimal", "01 012"),
        ("shape+rows+minimal", "```grid shape: 2x3\n1 012\n1 345\n```"),
    ],
    "bad_header": [
        ("block+minimal", "012\n345"),
        ("block+minimal", "```\n012\n345\n```"),
        ("block+minimal", "```grid \n012\n```"),
        ("block+minimal", "```grid shape: 2x3\n012\n345\n```"),
        ("block+minimal", " ```grid\n012\n```"),
        ("shape+minimal", "```grid\n012\n345\n```"),
        ("shape+minimal", "```grid shape: 2 x 3\n012\n345\n```"),
        ("shape+minimal", f"```grid shape: {'9' * 5000}x3\n012\n345\n```"),
        ("shape+minimal", "```grid shape: \u0662x3\n012\n345\n```"),
    ],
    "shape_mismatch": [
        ("shape+minimal", "```grid shape: 3x2\n012\n345\n```"),
        ("shape+minimal", "```grid shape: 3x3\n012\n345\n```"),
        ("shape+minimal", "```grid shape: 02x3\n012\n345\n```"),
    ],
    "truncated": [
        ("block+minimal", "```grid"),
        ("block+minimal", "```grid\n012\n345"),
        ("block+minimal", "```grid\n012\n345\n``"),
        ("shape+minimal", "```grid shape: 2x"),
        ("shape+minimal", "```grid shape: 2x3\n"),
        ("shape+rows+minimal", "```grid shape: 2x3\n1 012\n2 345\n"),
    ],
    "trailing_text": [
        ("block+minimal", "```grid\n012\n345\n```\n"),
        ("shape+minimal", "```grid shape: 1x1\n0\n```\n\n```grid shape: 1x1\n0\n```"),
        ("block+minimal", "```grid\n012\n345\n````"),
    ],
}


def grids() -> st.SearchStrategy[Grid]:
    """Grids of every shape up to 30 x 30, shape (height, width)."""
    return hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.integers(0, 9))


def encoder_classes() -> set[type]:
    """Every class of the module that encodes and decodes, but the Protocol."""
    found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__}
    return {kind for kind in found if hasattr(kind, "encode") and hasattr(kind, "decode")} - {GridEncoder}


def reason_of(encoder: GridEncoder, text: str) -> str | None:
    """Why a text is refused; None when it is decoded: then it is a grid and encodes to the same text."""
    try:
        grid = as_grid(encoder.decode(text))
    except DecodeError as error:
        return DECODE_REASONS[DECODE_REASONS.index(error.reason)]  # an unknown reason is an error
    assert encoder.encode(grid) == text
    return None


def test_no_encoder_is_without_an_example() -> None:
    assert encoder_classes() == {type(encoder) for encoder in EXAMPLES.values()} == set(ENCODERS.values())


@pytest.mark.parametrize("spec", EXAMPLES)
@settings(deadline=None, max_examples=60)
@given(grid=grids())
def test_round_trip(spec: str, grid: Grid) -> None:
    decoded = EXAMPLES[spec].decode(EXAMPLES[spec].encode(grid))
    assert same_grid(decoded, grid)
    assert decoded.dtype == np.int8 and not decoded.flags.writeable


@pytest.mark.parametrize("spec", EXAMPLES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (30, 30)])
def test_round_trip_at_the_edges(spec: str, shape: tuple[int, int]) -> None:
    grid = as_grid((np.arange(shape[0] * shape[1]).reshape(shape) % 10).tolist())
    assert same_grid(EXAMPLES[spec].decode(EXAMPLES[spec].encode(grid)), grid)


@pytest.mark.parametrize("spec", GOLDEN)
def test_golden_text_and_both_forms(spec: str) -> None:
    long_form, text = GOLDEN[spec]
    encoder = parse_encoder(spec)
    assert encoder.encode(GRID) == text and text.startswith(encoder.prefix)
    assert encoder.spec == spec and parse_encoder(encoder.spec) == encoder == parse_encoder(long_form)
    assert hash(encoder) == hash(parse_encoder(long_form))


def test_defaults_and_mixed_forms() -> None:
    assert parse_encoder("repeat") == RepeatNumberEncoder(3)
    assert parse_encoder("separated") == GridWithSeparationEncoder("|")
    assert parse_encoder(" replace + minimal ") == ReplaceNumberEncoder(MinimalGridEncoder(), "ñò÷ûąćďęĚĞ")
    assert parse_encoder("shape(rows+minimal)") == parse_encoder("GridShapeEncoder+rows(minimal)")
    for fenced in (GridCodeBlockEncoder, GridShapeEncoder):
        assert fenced(MinimalGridEncoder()).prefix == "```grid"


def test_cell_symbols() -> None:
    assert cell_symbols(parse_encoder("shape+rows+replace+minimal")) == tuple("ñò÷ûąćďęĚĞ")
    assert cell_symbols(parse_encoder("rows+repeat(3)"))[7] == "777"
    assert cell_symbols(parse_encoder("block+colours"))[9] == "Brown"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("minimul", "no encoder 'minimul', the nearest is 'minimal'"),
        ("shape+row+minimal", "no encoder 'row', the nearest is 'rows'"),
        ("GridShapesEncoder(MinimalGridEncoder())", "the nearest is 'GridShapeEncoder'"),
        ("rows+block+minimal", "RowNumberEncoder cannot wrap GridCodeBlockEncoder"),
        ("RowNumberEncoder(GridCodeBlockEncoder(MinimalGridEncoder()))", "RowNumberEncoder cannot wrap GridCode"),
        ("shape+block+minimal", "GridShapeEncoder cannot wrap GridCodeBlockEncoder"),
        ("block+block+minimal", "GridCodeBlockEncoder cannot wrap GridCodeBlockEncoder"),
        ("rows+rows+minimal", "RowNumberEncoder cannot wrap RowNumberEncoder"),
        ("replace+rows+minimal", "ReplaceNumberEncoder cannot wrap RowNumberEncoder"),
        ("replace+replace+minimal", "ReplaceNumberEncoder cannot wrap ReplaceNumberEncoder"),
        ("replace+colours", "ReplaceNumberEncoder cannot wrap ColourNameEncoder"),
        ("minimal+rows+minimal", "minimal: found rows+minimal inside, expected nothing inside"),
        ("shape(minimal)+rows+minimal", "minimal: found rows+minimal inside"),
        ("shape", "shape: found nothing inside, expected an encoder inside"),
        ("shape(3)+minimal", "shape: found arguments (3), expected plain values for (inner)"),
        ("repeat(2, 3)", "repeat: found arguments (2, 3), expected plain values for (n)"),
        ("repeat(0)", "found n = 0"),
        ("repeat(True)", "found n = True"),
        ("repeat('3')", "found n = '3'"),
        ("repeat(n=3)", "found 'repeat(n=3)'"),
        ("repeat(1 + 1)", "found '1'"),
        ("separated('')", "found '', expected a separator"),
        ("separated('1')", "found '1', expected a separator"),
        ("separated('\\n')", "expected a separator"),
        ("separated(3)", "found 3, expected a separator"),
        ("replace('abcdefghi')+minimal", "expected ten distinct characters"),
        ("replace('abcdefghii')+minimal", "expected ten distinct characters"),
        ("replace('abcdefghi`')+minimal", "expected ten distinct characters"),
        ("replace('abcdefghi ')+minimal", "expected ten distinct characters"),
        ("replace('abcdefghi|')+separated('|')", "expected ten distinct characters"),
        ("replace(10)+minimal", "expected ten distinct characters"),
        ("__import__('os').system('true')", "expected names of encoders"),
        ("minimal()()", "expected names of encoders"),
        ("minimal-rows", "expected names of encoders"),
        ("", "a spec looks like shape+rows+minimal"),
        ("shape+", "a spec looks like shape+rows+minimal"),
        ("minimal\0", "a spec looks like shape+rows+minimal"),
        ("rows+" * 5000 + "minimal", "a spec looks like shape+rows+minimal"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused_by_name(spec: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_encoder(spec)
    assert message in str(error.value)


def test_wrapping_is_checked_without_a_spec_too() -> None:
    with pytest.raises(ConfigError, match="RowNumberEncoder cannot wrap RowNumberEncoder"):
        RowNumberEncoder(RowNumberEncoder(MinimalGridEncoder()))
    nothing: Any = None
    with pytest.raises(ConfigError, match="cannot wrap NoneType"):
        GridShapeEncoder(nothing)


@pytest.mark.parametrize("reason", DECODE_REASONS)
def test_every_reason_is_provoked(reason: str) -> None:
    for spec, text in REFUSED[reason]:
        assert (spec, text, reason_of(parse_encoder(spec), text)) == (spec, text, reason)


def test_reasons_are_distinct_and_all_tested() -> None:
    assert len(set(DECODE_REASONS)) == len(DECODE_REASONS) and set(REFUSED) == set(DECODE_REASONS)


@pytest.mark.parametrize("spec", EXAMPLES)
def test_truncated_texts_do_not_vote(spec: str) -> None:
    """Cut anywhere: a fenced text is refused, any other is refused unless what is left is a whole grid."""
    encoder = EXAMPLES[spec]
    text = encoder.encode(as_grid(np.arange(40).reshape(10, 4) % 10))
    for end in range(len(text)):
        assert reason_of(encoder, text[:end]) or not encoder.prefix


def mutated(text: str, rng: random.Random, pool: str) -> str:
    """A text with one to three edits: a character or a line dropped, doubled, replaced or added, or the end cut."""
    for _ in range(rng.randint(1, 3)):
        pieces = list(text) if rng.random() < 0.7 else text.split("\n")
        joint = "\n" if len(pieces) < len(text) else ""
        at = rng.randrange(len(pieces) + 1)
        new = rng.choice([rng.choice(pool), *pieces[at : at + 1], *pieces[at - 1 : at]])
        pieces[at : at + rng.choice([0, 1, 1, len(pieces)])] = rng.choice([[], [new]])
        text = joint.join(pieces)
    return text


def test_mutated_texts_are_refused_or_encode_to_themselves() -> None:
    rng, encoders = random.Random(0), list(EXAMPLES.values())
    pool = "".join(sorted({s for encoder in encoders for s in encoder.encode(GRID)})) + "789\r\t \u0662²x\u2028\0"
    seen = {reason: 0 for reason in (None, *DECODE_REASONS)}
    for i in range(10_000):
        encoder = encoders[i % len(encoders)]
        shape = rng.choice([(1, 1), (2, 3), (3, 2), (5, 5), (30, 2), (2, 30)])
        grid = as_grid([[rng.randrange(10) for _ in range(shape[1])] for _ in range(shape[0])])
        seen[reason_of(encoder, mutated(encoder.encode(grid), rng, pool))] += 1
    assert min(seen.values()) > 0, seen


@settings(deadline=None, max_examples=150)
@given(text=st.text(alphabet="01 |\n`gridshape:x1ñò") | st.text())
def test_any_text_is_refused_or_encodes_to_itself(text: str) -> None:
    for encoder in EXAMPLES.values():
        reason_of(encoder, text)
