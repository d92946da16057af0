"""Where a token of a prompt stands: in which grid, row and column. It follows from the tokens before it.

A language model reads a grid as a line of tokens; with these positions it finds the same cell in another grid without
counting. The machine here takes one token at a time; `arc_kaggle.models.grid_places` does the same for whole batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

LAST_PLACE = 31
"""Of the rows and of the columns: a grid has up to 30, and a token behind each of its rows."""


class Place(NamedTuple):
    """Grid 2p is the input of pair p and grid 2p + 1 its output, counted from pair 1; row and column from 0."""

    grid: int = 0
    row: int = 0
    column: int = 0


START = Place()
"""Where the first token of a sequence stands."""


@dataclass(frozen=True, slots=True)
class GridPositions:
    """The state machine: the place of a token and the token give the place of the token behind it.

    Ids of the tokens that move to somewhere else than the next column: `newline` to the next row, `input` to the next
    pair's first cell, `output` to the first cell of the same pair's output, `begin` back to the start.
    """

    newline: int
    input: int
    output: int
    begin: int

    def advance(self, place: Place, token: int) -> Place:
        """The place of the token behind `token`, which stands at `place`.

        A grid's last row or column stands for all further ones, so that no text, however wrong, leaves the table of
        places.
        """
        grid, row, column = place
        if token == self.newline:
            return Place(grid, min(row + 1, LAST_PLACE), 0)
        if token == self.input:
            return Place((grid | 1) + 1, 0, 0)
        if token == self.output:
            return Place(grid | 1, 0, 0)
        if token == self.begin:
            return START
        return Place(grid, row, min(column + 1, LAST_PLACE))

    def places(self, tokens: Iterable[int], start: Place = START) -> Iterator[Place]:
        """The place of every token, and at last that of the token which would come next."""
        return accumulate(tokens, self.advance, initial=start)
