"""Pictures of what a model says of every cell of a right answer: how unsure it is, and how likely it makes the cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arc_kaggle.config.model import BOX_FOLDER
from arc_kaggle.config.study import StudyConfig
from arc_kaggle.drawing import PALETTE
from arc_kaggle.errors import ConfigError
from arc_kaggle.evaluation.study.puzzles import study_tasks
from arc_kaggle.models.loading import LoadedModel, load_model
from arc_kaggle.system.files import write_atomically
from arc_kaggle.tasks.grid import N_COLOURS, Grid
from arc_kaggle.tasks.task import Query
from arc_kaggle.text.fit_prompt import fit_query
from arc_kaggle.text.notation import Notation

Cells = NDArray[np.float64]
"""A number for each cell, (height, width)."""
ROWS_A_PASS = 32
"""Windows that are computed together."""


def draw_tokens(config: StudyConfig) -> str:
    """Write tokens.csv and tokens.svg for one puzzle and all models; gives what they say in a line a picture.

    Raises ConfigError for a puzzle that is not there, ModelError.
    """
    tasks = study_tasks(config.tasks, config.n_tasks, config.longest)
    if config.query >= len(tasks):
        raise ConfigError(f"option query: found {config.query}, expected less than the {len(tasks)} puzzles")
    query = Query(tasks[config.query], 0)
    assert query.answer is not None, "the puzzles of a study have answers"
    pictures: dict[tuple[str, str], Mapping[str, Cells]] = {}
    for folder in config.models or (BOX_FOLDER,):
        model = load_model(folder, "fp32", "cpu")
        for context, window in (("full", 0), (f"last {config.window}", config.window)):
            pictures[folder.name, context] = cells_of(model, query, window)
    config.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(config.folder / "tokens.csv", as_csv_text(query.answer, pictures))
    _draw(config.folder / "tokens.svg", query.answer, pictures)
    lines = [
        f"{name}, {context} context: entropy {cells['entropy'].mean():.3f} nats a cell, the right cell "
        f"{100 * cells['right'].mean():.1f}%"
        for (name, context), cells in pictures.items()
    ]
    return "\n".join(
        [f"puzzle {query.task.id}, {query.answer.size} cells", *lines, f"{config.folder}: tokens.svg, tokens.csv"]
    )


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
    rows = np.stack([ids[max(0, p - window) : max(0, p - window) + window] for p in places])  # (cells, window)
    ends = torch.tensor([min(p, window) - 1 for p in places])
    parts = [
        network(input_ids=torch.from_numpy(rows[i : i + ROWS_A_PASS]), use_cache=False).logits[
            torch.arange(len(rows[i : i + ROWS_A_PASS])), ends[i : i + ROWS_A_PASS]
        ]
        for i in range(0, len(rows), ROWS_A_PASS)
    ]
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
            numbers = [f"{cells[kind][y, x]:.5f}" for kind in ("entropy", "right", "confidence")]
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
