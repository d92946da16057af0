"""The place of a token: the machine against a plain reading of the text, and the batched form against the machine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import tasks

from arc_kaggle.models.grid_places import next_places, places_of
from arc_kaggle.tasks.task import Task
from arc_kaggle.text.box_tokenizer import box_tokenizer
from arc_kaggle.text.grid_positions import LAST_PLACE, START, GridPositions, Place
from arc_kaggle.text.presets import find_preset
from arc_kaggle.text.prompt import query_prompt
from arc_kaggle.text.tokens import tokenize

BEGIN, INPUT, OUTPUT, NEWLINE, OTHERS = 1, 3, 4, 5, 16
MACHINE = GridPositions(NEWLINE, INPUT, OUTPUT, BEGIN)
TEXTS = st.lists(st.lists(st.integers(0, OTHERS - 1), min_size=12, max_size=12), min_size=1, max_size=3)
LONG_ROWS = [[INPUT, *[7] * 40, NEWLINE] + [8, NEWLINE] * 40]


@given(tasks())
def test_every_cell_of_a_prompt_stands_at_its_row_and_column_of_its_grid(task: Task) -> None:
    tokenizer = box_tokenizer()
    query = next(task.without_solution().queries)
    notation = find_preset("plain", tokenizer).notation(tokenizer)
    ids = tokenize(query_prompt(query, notation), tokenizer).ids
    expected = [
        Place(2 * number + side, row, column)
        for number, pair in enumerate([*task.train, query], start=1)
        for side, grid in enumerate([pair.input] if pair is query else [pair.input, pair.output])
        for row, column in np.ndindex(grid.shape)
    ]
    places = list(MACHINE.places(ids.tolist()))[:-1]
    assert [place for place, token in zip(places, ids, strict=True) if token > NEWLINE] == expected


def test_a_newline_stands_behind_its_row_and_what_ends_a_grid_behind_its_last_cell() -> None:
    ids = [BEGIN, INPUT, 7, 8, NEWLINE, 9, 7, OUTPUT, 7, 2, INPUT, 9]
    rows = [tuple(place) for place in MACHINE.places(ids)]
    assert rows[:7] == [(0, 0, 0), (0, 0, 0), (2, 0, 0), (2, 0, 1), (2, 0, 2), (2, 1, 0), (2, 1, 1)]
    assert rows[7:] == [(2, 1, 2), (3, 0, 0), (3, 0, 1), (3, 0, 2), (4, 0, 0), (4, 0, 1)]


def test_no_text_leaves_the_table() -> None:
    found = np.array(list(MACHINE.places(LONG_ROWS[0])))
    assert found[:, 1:].max() == LAST_PLACE
    assert found.min() == 0


@given(TEXTS)
def test_batches_are_what_the_machine_says(rows: list[list[int]]) -> None:
    expected = [list(MACHINE.places(row)) for row in rows]
    ids = torch.tensor(rows)
    places = places_of(ids, MACHINE)
    assert places.tolist() == [[list(place) for place in row[:-1]] for row in expected]
    assert next_places(places, ids, MACHINE).tolist() == [[list(place) for place in row[1:]] for row in expected]


def test_batches_keep_within_the_table_as_the_machine_does() -> None:
    places = places_of(torch.tensor(LONG_ROWS), MACHINE)
    assert places[0].tolist() == [list(place) for place in MACHINE.places(LONG_ROWS[0])][:-1]


@given(TEXTS, st.lists(st.integers(1, 11), min_size=1, max_size=4, unique=True))
def test_an_example_packed_behind_others_begins_at_the_start(rows: list[list[int]], cuts: list[int]) -> None:
    ids, borders = torch.tensor(rows), sorted({0, 12, *cuts})
    lengths = [end - begin for begin, end in pairwise(borders)]
    depths = torch.cat([torch.arange(length) for length in lengths]).expand(ids.shape)
    expected = torch.cat([places_of(part, MACHINE) for part in ids.split(lengths, dim=1)], dim=1)
    assert torch.equal(places_of(ids, MACHINE, depths), expected)


@given(st.lists(st.integers(0, OTHERS - 1), max_size=20), st.integers(0, 20))
def test_a_text_can_be_read_on_from_any_place(ids: list[int], cut: int) -> None:
    *first, at = MACHINE.places(ids[:cut])
    assert [*first, *MACHINE.places(ids[cut:], at)] == list(MACHINE.places(ids))
    assert next(MACHINE.places(ids)) == START
