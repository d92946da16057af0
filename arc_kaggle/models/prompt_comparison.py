"""Other ways to put a task to a model than its own, and how likely each makes the known answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from arc_kaggle.errors import ArcKaggleError, ConfigError
from arc_kaggle.models.loading import LoadedModel, pick_preset
from arc_kaggle.models.loss import collate, completion_loss
from arc_kaggle.models.memory_formulas import BUCKET
from arc_kaggle.tasks.task import Query
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import PRESETS
from arc_kaggle.text.prompt import query_prompt, with_answer
from arc_kaggle.text.prompt_format import PromptFormat
from arc_kaggle.text.tokenizer_checks import check_answer, keeps_cells_apart
from arc_kaggle.text.tokens import NOT_TRAINED, tokenize


@torch.inference_mode()
def nll_per_cell(model: LoadedModel, query: Query, notation: Notation) -> float:
    """NLL in nats of a query's known answer, its end included, by the cells of its grid."""
    if query.answer is None:
        raise ConfigError(f"task {query.task.id}: found no test output, expected tasks with known answers")
    prompt = with_answer(query_prompt(query, notation), query.answer, notation)
    ids, labels = collate([tokenize(prompt, model.tokenizer)], model.pad_id, BUCKET)
    loss = completion_loss(model, ids.to(model.device), labels.to(model.device))
    return loss.item() * int((labels != NOT_TRAINED).sum()) / query.answer.size


def other_ways(model: LoadedModel, folder: Path) -> tuple[dict[str, Notation], tuple[str, ...]]:
    """Two perturbed prompts and those of all other presets; and the names of those that the tokenizer refuses.

    A preset comes with its own encoder, and where the tokenizer refuses that, with the model's. One that differs in
    what stands before the first pair alone is too much like the model's own to be compared.
    """
    own, takes = model.notation, _Takes()
    found: dict[str, Notation] = {}
    refusing: list[str] = []
    for name, change in (("swapped", swapped), ("unmarked", unmarked)):
        if takes(asked := replace(own, format=change(own.format))):
            found[name] = asked
        else:
            refusing.append(f"nll against {name}")
    presets: dict[str, Notation] = {}
    for name in (*PRESETS, "auto"):
        asked_by_preset = _of_preset(model, folder, name, takes)
        if asked_by_preset is None:
            refusing.append(f"nll against {name}")
        elif not any(_alike(asked_by_preset, known) for known in (own, *presets.values())):
            presets[name] = asked_by_preset
    return {name: asked for name, asked in (found | presets).items() if asked != own}, tuple(refusing)


def _of_preset(model: LoadedModel, folder: Path, name: str, takes: _Takes) -> Notation | None:
    """A preset in its own encoder or in the model's, whichever the tokenizer takes; None where it takes neither."""
    try:
        preset = pick_preset(folder, model.tokenizer, name)
    except ArcKaggleError:
        return None
    own_cells = replace(model.notation, format=preset.format)
    ways = (own_cells.in_encoder(parse_encoder(preset.encoder)), own_cells)
    return next((way for way in ways if takes(way)), None)


class _Takes:
    """Whether a tokenizer carries grids and answers of notations; its cells are tried once an encoder."""

    def __init__(self) -> None:
        self.apart: dict[str, bool] = {}

    def __call__(self, notation: Notation) -> bool:
        encoder = notation.encoder
        if encoder.spec not in self.apart:
            self.apart[encoder.spec] = keeps_cells_apart(notation.tokenizer, encoder)
        try:
            return self.apart[encoder.spec] and check_answer(notation) is not None
        except ArcKaggleError:
            return False


def _alike(a: Notation, b: Notation) -> bool:
    return (replace(a.format, begin=""), a.encoder) == (replace(b.format, begin=""), b.encoder)


def swapped(fmt: PromptFormat) -> PromptFormat:
    """What stands before an input stands before an output, and the other way round."""
    asked = fmt.for_query
    marks = {"input": fmt.output, "output": fmt.input, "query_input": asked.output, "query_output": asked.input}
    return replace(fmt, **{name: mark.replace("{i}", "") for name, mark in marks.items()})  # type: ignore[arg-type]


def unmarked(fmt: PromptFormat) -> PromptFormat:
    """Nothing stands before an input, a newline before an output, and nothing before all."""
    return replace(fmt, begin="", input="", output="\n", query_input="", query_output="\n")
