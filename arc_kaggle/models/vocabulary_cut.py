"""The vocabulary cut: a model that keeps only the tokens which prompts and answers of one format are made of.

ARChitects 2024 and NVARC 2025 cut theirs to 64 and 16 tokens: embeddings and head of a small model are most of its
weights, and an answer can hold no other token. Logits of the kept tokens are what they were; probabilities are over
fewer tokens, so that an NLL can only fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.models.loading import LoadedModel
from arc_kaggle.tasks.grid import MAX_SIDE, N_COLOURS, Grid
from arc_kaggle.tasks.task import Pair, Task
from arc_kaggle.text.choices import between_choices
from arc_kaggle.text.encoders import parse_encoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.prompt import training_prompt
from arc_kaggle.text.prompt_format import Prompt
from arc_kaggle.text.tokens import Tokenizer, token_limit, tokenize

SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


@dataclass(frozen=True, slots=True, eq=False)
class CutTokenizer:
    """A tokenizer whose ids are positions in `kept`, the full tokenizer's ids in ascending order."""

    full: Tokenizer
    kept: tuple[int, ...]
    new_ids: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "new_ids", {token_id: new_id for new_id, token_id in enumerate(self.kept)})

    @property
    def model_max_length(self) -> int:
        return token_limit(self.full)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text. Raises PromptError where it needs a token that was cut."""
        ids = self.full.encode(text, add_special_tokens=add_special_tokens)
        try:
            return [self.new_ids[token_id] for token_id in ids]
        except KeyError as error:
            raise PromptError(
                f"cut vocabulary: {text[:80]!r} needs the token {self.full.decode([error.args[0]])!r}, expected one of "
                f"the {len(self.kept)} kept; run without --cut-vocabulary"
            ) from None

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.full.decode([self.kept[token_id] for token_id in token_ids])


def cut_vocabulary(model: LoadedModel, fallback_encoder: str = "") -> LoadedModel:
    """The model with the tokens in use alone. Its network is shrunk in place: cut before an adapter is attached.

    Adapters that train embeddings or head then fit the cut model, and not the whole one.
    """
    fallback = [parse_encoder(fallback_encoder)] if fallback_encoder else []
    used = used_ids(model.notation).union(*(used_ids(model.notation.in_encoder(encoder)) for encoder in fallback))
    specials = [getattr(model.tokenizer, name, None) for name in SPECIAL_IDS]
    kept = tuple(sorted({*used, model.end_id, model.pad_id, *(i for i in specials if i is not None)}))
    tokenizer = CutTokenizer(model.tokenizer, kept)
    shrink(model.network, kept)
    new = tokenizer.new_ids
    notation = replace(model.notation, tokenizer=tokenizer)
    return replace(model, notation=notation, end_id=new[model.end_id], pad_id=new[model.pad_id])


def used_ids(notation: Notation) -> set[int]:
    """Ids of all tokens that tasks in this notation are made of, whatever is trained on."""
    fmt = notation.format
    grids = (notation.encoder.encode(grid) for grid in _corners())
    verdicts = filter(None, (fmt.verify, fmt.right, fmt.wrong, *between_choices(notation)))
    counted = (*grids, fmt.answer_end, fmt.stop_text, *verdicts)  # texts whose tokens are counted, each by itself
    alone = {i for text in counted for i in notation.ids(text)}
    return alone.union(*(tokenize(prompt, notation.tokenizer).ids.tolist() for prompt in covering_prompts(notation)))


def covering_prompts(notation: Notation) -> Iterator[Prompt]:
    """Prompts that hold every text a prompt can hold.

    Where a token could reach over the border of a grid: all colours before it and behind it, in every kind of span.
    Inside of grids, whose cells are tokens of their own (`check_cells`): all shapes, on either side of a pair. And
    the numbers of as many pairs as a task may have.
    """
    cells, by_loss = list(_corners()), {loss: replace(notation, loss=loss) for loss in get_args(Loss)}
    for a, b in product(cells, cells):
        pairs = (Pair(a, b), Pair(np.tile(a, (2, 2)), np.tile(b, (2, 2))), Pair(a, b))
        for trained in by_loss.values():
            yield training_prompt(Task("corners", pairs, ()), trained)
    for row in range(MAX_SIDE):
        many = tuple(Pair(_grid(row, side), _grid(side, row)) for side in range(MAX_SIDE))
        for loss in by_loss if row == 0 else ("outputs",):
            yield training_prompt(Task("shapes", many, ()), by_loss[loss])


def _corners() -> Iterator[Grid]:
    """A cell of every colour: what a grid begins and ends with."""
    for colour in range(N_COLOURS):
        yield np.full((1, 1), colour, dtype=np.int8)


def _grid(row: int, column: int) -> Grid:
    """A grid of row + 1 x column + 1 cells of mixed colours."""
    return np.add.outer(np.arange(row + 1) * 3, np.arange(column + 1) + row).astype(np.int8) % N_COLOURS


@torch.no_grad()
def shrink(network: Any, kept: Sequence[int]) -> None:
    """Keep some rows of the embeddings and the head, in place; where they share one weight they go on sharing it."""
    embeddings, head = network.get_input_embeddings(), network.get_output_embeddings()
    n_rows = [0 if layer is None else len(layer.weight) for layer in (embeddings, head)]
    if n_rows[0] != n_rows[1] or max(kept) >= n_rows[0]:
        raise ModelError(
            f"cut vocabulary: found {n_rows[0]} embeddings and a head of {n_rows[1]} in {type(network).__name__}, "
            f"expected one of each for every token, the highest of which is {max(kept)}; run without --cut-vocabulary"
        )
    rows = torch.tensor(kept, device=embeddings.weight.device)
    tied = head.weight is embeddings.weight
    embeddings.weight = _rows(embeddings.weight, rows)
    head.weight = embeddings.weight if tied else _rows(head.weight, rows)
    if getattr(head, "bias", None) is not None:
        head.bias = _rows(head.bias, rows)
    new_ids = {token_id: new_id for new_id, token_id in enumerate(kept)}
    embeddings.num_embeddings = head.out_features = network.config.vocab_size = len(kept)
    embeddings.padding_idx = new_ids.get(embeddings.padding_idx)
    for config in (network.config, getattr(network, "generation_config", network.config)):
        for name in SPECIAL_IDS:
            old = getattr(config, name, None)
            setattr(config, name, new_ids.get(old) if isinstance(old, int) else None)


def _rows(weight: nn.Parameter, rows: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight[rows.to(weight.device)].clone(), requires_grad=weight.requires_grad)
