"""All verifiers by the names of the families, and how pairs of a rule, or of a chain of rules, are verified."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from arc_kaggle.synth.verifiers import (
    colours,
    counting,
    cropping,
    filling,
    framing,
    legends,
    lines,
    moving,
    painting,
    panels,
    patterns,
    selecting,
    stamps,
    symmetry,
    tiling,
)
from arc_kaggle.synth.verifiers.cells import Rows
from arc_kaggle.synth.verifiers.selecting import Verifier
from arc_kaggle.tasks.grid import Grid, grid_lists

TOPICS = (
    *(symmetry, tiling, patterns, cropping, colours, legends, moving, lines),
    *(framing, stamps, filling, painting, counting, panels),
)


def _verifiers(topic: ModuleType) -> Iterator[tuple[str, Verifier]]:
    for name, value in vars(topic).items():
        if inspect.isfunction(value) and value.__module__ == topic.__name__ and not name.startswith("_"):
            yield name, value


VERIFIERS: dict[str, Verifier] = {
    **{name: verifier for topic in TOPICS for name, verifier in _verifiers(topic)},
    **selecting.SELECTING,
    "crop_commonest": selecting.crop_commonest,
}
"""Family name -> what the rule makes of rows, given its parameters."""


def verify(chain: Sequence[tuple[str, dict[str, Any]]], input_grid: Grid, output_grid: Grid) -> bool:
    """Whether the output is what a rule, or a chain of (family name, parameters), makes of the input.

    An input for which the rule has no clear answer has no right output. Raises KeyError for an unknown family.
    """
    return answer(chain, grid_lists(input_grid)) == grid_lists(output_grid)


def answer(chain: Sequence[tuple[str, dict[str, Any]]], rows: Rows) -> Rows | None:
    """What a chain of rules makes of some rows; None where it has no clear answer."""
    for name, params in chain:
        verifier = VERIFIERS[name]
        try:
            rows = verifier(rows, **params)
        except (ValueError, IndexError):
            return None
    return rows
