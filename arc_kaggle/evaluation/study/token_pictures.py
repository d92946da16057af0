"""Pictures of what a model says of every cell of a right answer: how unsure it is, and how likely it makes the cell."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.drawing import PALETTE
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.study.study import find_models, make_folder, note_progress, puzzles_of, write_progress
from arc_kaggle.evaluation.study.table import StudyRow
from arc_kaggle.models.grid_places import places_of
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.deadline import Clock, Deadline
from arc_kaggle.system.files import line_of, read_lines, write_atomically
from arc_kaggle.tasks.grid import N_COLOURS, Grid
from arc_kaggle.tasks.task import Query
from arc_kaggle.text.fit_prompt import fit_query
from arc_kaggle.text.notation import Notation

Cells = NDArray[np.float64]
"""A number for each cell, (height, width)."""
KINDS = ("entropy", "right", "confidence")
ROWS_A_PASS = 32
"""Windows that are computed together."""


def draw_tokens(config: StudyConfig, say: Callable[[str], None] = print, clock: Clock = time.monotonic) -> str:
    """Write cells.jsonl and the tables of all puzzles, tokens.csv and tokens.svg for one of them; gives the table.

    A puzzle is through when all models have said what they make of it, and stays so. With --hours no puzzle but
    the first begins that would not end in time. Raises ConfigError for an adapter or a puzzle that is not there,
    ModelError.
    """
    call_begun = clock()
    until = Deadline.never() if config.hours is None else Deadline.after(3600 * config.hours, clock)
    make_folder(config.folder)
    tasks = puzzles_of(config)
    if config.query >= len(tasks):
        raise ConfigError(f"option query: found {config.query}, expected less than the {len(tasks)} puzzles")
    models = find_models(config)
    if adapters := [name for name, model in models.items() if model.base]:
        raise ConfigError(f"study tokens: found adapter {adapters[0]}, expected models; `arc-kaggle merge` makes one")
    loaded = {name: load_model(model.folder, "fp32", "cpu") for name, model in models.items()}
    digests = {name: model.digest[:16] for name, model in models.items()}
    file = CellFile(config.folder / "cells.jsonl")
    longest, n_done = 0.0, 0
    order = [config.query, *(i for i in range(len(tasks)) if i != config.query)]
    for task in (tasks[i] for i in order):
        begun = clock()
        if longest and longest > until.seconds_left:
            say(f"{longest:.0f} s expected for a puzzle, {until.seconds_left:.0f} s left: it ends here")
            break
        for name, model in loaded.items():
            for context, window in contexts(config):
                file.get((task.id, name, digests[name], context), partial(cells_of, model, Query(task, 0), window))
        longest, n_done = max(longest, clock() - begun), n_done + 1
        if config.plan:
            return f"about {longest * len(tasks) / 3600:.2f} h for {len(tasks)} puzzles"
    answer = tasks[config.query].test[0].output
    assert answer is not None, "the puzzles of a study have answers"
    columns = [(name, context) for name in loaded for context, _ in contexts(config)]
    pictures = {(n, c): file.cells[tasks[config.query].id, n, digests[n], c] for n, c in columns}
    write_atomically(config.folder / "tokens.csv", as_csv_text(answer, pictures))
    _draw(config.folder / "tokens.svg", answer, pictures)
    rows = [token_row(f"{n}, {c} context", file, (n, digests[n], c)) for n, c in columns]
    write_atomically(config.folder / "table.md", tokens_table(rows))
    write_atomically(config.folder / "table.csv", tokens_csv(rows))
    write_progress(config.folder, puzzles=n_done, is_through=n_done == len(tasks))
    note_progress(config, (clock() - call_begun) / 3600)
    return tokens_table(rows)


def contexts(config: StudyConfig) -> tuple[tuple[str, int], ...]:
    """What a model sees before each cell, with the window in tokens; 0 for everything."""
    return ("full", 0), (f"last {config.window}", config.window)


CellKey = tuple[str, str, str, str]
"""Puzzle, model, its digest, context."""


class CellFile:
    """What models made of the cells of puzzles, a line each; what is there is not computed again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[CellKey, Mapping[str, Cells]] = {}
        for line in read_lines(path).values if path.is_file() else ():
            self.cells[line["puzzle"], line["model"], line["digest"], line["context"]] = {
                kind: np.array(line[kind]) for kind in KINDS
            }

    def get(self, key: CellKey, compute: Callable[[], Mapping[str, Cells]]) -> None:
        """Compute and keep what is not there."""
        if key not in self.cells:
            found = self.cells[key] = compute()
            named = dict(zip(("puzzle", "model", "digest", "context"), key, strict=True))
            with self.path.open("ab") as file:
                file.write(line_of({**named, **{kind: found[kind].tolist() for kind in KINDS}}))


def token_row(title: str, file: CellFile, rest: tuple[str, str, str]) -> StudyRow:
    """The means over the cells of each puzzle."""
    return StudyRow(
        title,
        {
            (key[0], 0, 0): {kind: float(values.mean()) for kind, values in cells.items()}
            for key, cells in file.cells.items()
            if key[1:] == rest
        },
    )


def tokens_table(rows: Sequence[StudyRow]) -> str:
    """Means over puzzles with 95% intervals, and the entropy less that of the first row, paired."""
    head = ("model and context", "n", "entropy, nats a cell", "right cell, %", "likeliest, %", "entropy less", "shows")
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 2) + "|---|"]
    for row in rows:
        entropy = row.mean("entropy")
        shares = (f"{100 * row.mean(kind).mean:.1f}" for kind in ("right", "confidence"))
        cells = [row.name, str(row.n_tasks), f"{entropy.mean:.3f} ({entropy.low:.3f}..{entropy.high:.3f})", *shares]
        less = None if row is rows[0] else row.less(rows[0], "entropy")
        interval = f"{less.score.mean:+.3f} ({less.score.low:+.3f}..{less.score.high:+.3f})" if less else ""
        cells += [interval, less.shows if less else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tokens_csv(rows: Sequence[StudyRow]) -> str:
    """The same as shares and nats, every mean with its 95% interval."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "n_puzzles", *(f"{kind}{part}" for kind in KINDS for part in ("", "_low", "_high"))])
    for row in rows:
        means = [row.mean(kind) for kind in KINDS]
        cells = [f"{each:.5f}" for mean in means for each in (mean.mean, mean.low, mean.high)]
        writer.writerow([row.name, row.n_tasks, *cells])
    return file.getvalue()


@torch.inference_mode()
def cells_of(model: LoadedModel, query: Query, window: int = 0) -> Mapping[str, Cells]:
    """Of every cell of the right answer, all before it given: `entropy` of the next token in nats, the probability of
    the `right` token, and of the likeliest, `confidence`. With a window only so many tokens before it are seen.
    """
    answer = query.answer
    assert answer is not None, "the puzzles of a study have answers"
    notation = model.notation
    prompt = fit_query(query, notation, notation.token_limit).example.ids
    ids = np.concatenate([prompt, notation.completion_ids(answer)])
    places = len(prompt) + cell_places(answer, notation)  # (height, width) places of cells among all ids
    logits = _logits(model, ids, places.ravel(), window)  # (cells, vocab)
    logs = torch.log_softmax(logits.double(), dim=-1)
    chances = logs.exp()
    right = chances[torch.arange(len(logs)), torch.from_numpy(ids[places.ravel()])]
    found = {"entropy": -(chances * logs).nansum(-1), "right": right, "confidence": chances.max(-1).values}
    return {name: value.numpy().reshape(answer.shape) for name, value in found.items()}


def _logits(model: LoadedModel, ids: NDArray[np.int64], places: NDArray[np.int64], window: int) -> torch.Tensor:
    network: Any = model.network
    if not window:
        whole: torch.Tensor = network(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]  # (time, vocab)
        return whole[torch.from_numpy(places) - 1]
    begins = torch.from_numpy(places - window).clamp(min=0)[:, None]
    seen = begins + torch.arange(min(window, len(ids)))  # (cells, window)
    rows, ends = torch.from_numpy(ids)[seen], torch.from_numpy(places)[:, None] - begins - 1
    machine = getattr(network.config, "positions", None)
    told = None if machine is None else places_of(torch.from_numpy(ids)[None], machine)[0][seen]  # (cells, window, 3)
    parts = []
    for i in range(0, len(rows), ROWS_A_PASS):
        some = slice(i, i + ROWS_A_PASS)
        stands = {} if told is None else {"position_ids": told[some]}  # where a token stood before the cut
        logits = network(input_ids=rows[some], use_cache=False, **stands).logits
        parts.append(logits[torch.arange(len(logits))[:, None], ends[some]][:, 0])
    return torch.cat(parts)


def cell_places(grid: Grid, notation: Notation) -> NDArray[np.int64]:
    """Which token of an answer says the colour of each cell, (height, width): the first that another colour changes."""
    ids = notation.completion_ids(grid)

    def place(y: int, x: int) -> int:
        other = grid.copy()
        other[y, x] = (other[y, x] + 1) % N_COLOURS
        changed = notation.completion_ids(other)
        n = min(len(ids), len(changed))
        return int(np.flatnonzero(ids[:n] != changed[:n])[0])

    return np.array([[place(y, x) for x in range(grid.shape[1])] for y in range(grid.shape[0])], dtype=np.int64)


def as_csv_text(answer: Grid, pictures: Mapping[tuple[str, str], Mapping[str, Cells]]) -> str:
    """A line a cell, model and context."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "context", "row", "column", "colour", "entropy_nats", "p_right", "p_likeliest"])
    writer.writerows(_lines(answer, pictures))
    return file.getvalue()


def _lines(answer: Grid, pictures: Mapping[tuple[str, str], Mapping[str, Cells]]) -> Iterator[list[Any]]:
    for (name, context), cells in pictures.items():
        for y, x in np.ndindex(*answer.shape):
            numbers = [f"{cells[kind][y, x]:.5f}" for kind in KINDS]
            yield [name, context, y, x, int(answer[y, x]), *numbers]


def _draw(path: Path, answer: Grid, pictures: Mapping[tuple[str, str], Mapping[str, Cells]]) -> None:
    """A row a model and context: the answer, the entropy, the probability of the right cell, and of the likeliest."""
    import matplotlib
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    kinds = (("entropy", 2.3, "magma"), ("right", 1.0, "viridis"), ("confidence", 1.0, "viridis"))
    options: dict[Any, Any] = {"svg.hashsalt": "arc_kaggle", "svg.fonttype": "none"}
    with matplotlib.rc_context(options):
        figure = Figure(figsize=(11, 2.7 * len(pictures)), layout="constrained")
        all_axes = figure.subplots(len(pictures), 1 + len(kinds), squeeze=False)
        for axes, ((name, context), cells) in zip(all_axes, pictures.items(), strict=True):
            axes[0].pcolormesh(answer[::-1], cmap=ListedColormap(PALETTE), vmin=-0.5, vmax=9.5)
            axes[0].set_title(f"{name}\n{context} context", fontsize=9)
            for each, (kind, most, colours) in zip(axes[1:], kinds, strict=True):
                drawn = each.pcolormesh(cells[kind][::-1], cmap=colours, vmin=0, vmax=most)
                each.set_title(kind, fontsize=9)
                figure.colorbar(drawn, ax=each)
            for each in axes:
                each.set_aspect("equal")
                each.set_axis_off()
        figure.savefig(path, metadata={"Date": None})
