"""The network of a micro-step model: merger, base model over macro positions, and the decoder of a segment's tokens.

Token ids `a b c d e` in the segments `a | b c | d e`, each of which becomes one macro position:

    macro position   0      1        2
    holds            a      b c      d e
    its state says   b      d        what comes next
    micro decoder           c after b, from state 0;  e after d, from state 1

So the first token of every segment comes from the base model and its own head, and with segments of one token the
whole is the base model: its positions are those of the tokens, for each macro position stands where its last token
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_kaggle.config.micro import MicroConfig
from arc_kaggle.errors import ConfigError
from arc_kaggle.micro.segmentation import openers_of, starts_of
from arc_kaggle.models.grid_places import places_of
from arc_kaggle.text.grid_positions import GridPositions
from arc_kaggle.text.tokens import NOT_TRAINED

Places = dict[str, Tensor]
"""Where macro positions stand, as arguments of the base: numbers, or for GridLM the last tokens and their places."""


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Segments of a batch of ids (batch, time)."""

    number: Tensor
    """The segment of each token, (batch, time), from 0."""
    within: Tensor
    """The place of each token in its segment, (batch, time), from 0."""
    table: Tensor
    """The tokens of each segment, (batch, segments, most), -1 behind the last one."""

    @classmethod
    def of(cls, starts: Tensor) -> Segments:
        """From where they begin, (batch, time) bool."""
        number = starts.long().cumsum(1) - 1
        places = torch.arange(starts.shape[1], device=starts.device).expand_as(number)
        within = places - torch.where(starts, places, 0).cummax(1).values
        shape = len(starts), int(number.max()) + 1, int(within.max()) + 1
        table = torch.full(shape, -1, device=starts.device)
        rows = torch.arange(len(starts), device=starts.device)[:, None].expand_as(number)
        table[rows, number, within] = places
        return cls(number, within, table)

    @property
    def last(self) -> Tensor:
        """The last token of each segment, (batch, segments); 0 where a row has no such segment."""
        return self.table.amax(-1).clamp(min=0)


class Merger(nn.Module):
    """A segment's embeddings become one; that of a segment of one token stays what it is, bit for bit."""

    def __init__(self, width: int, config: MicroConfig) -> None:
        super().__init__()
        self.kind = config.merger
        if self.kind == "weights":
            self.scores = nn.Linear(width, width, bias=False)
            self.places = nn.Parameter(torch.zeros(config.most_tokens, width))
            nn.init.normal_(self.scores.weight, std=0.02)

    def forward(self, embedded: Tensor, valid: Tensor) -> Tensor:
        """Embeddings (..., most, width), of which some are valid (..., most), to (..., width)."""
        at_last = (valid.sum(-1) - 1).clamp(min=0)
        last = embedded.gather(-2, at_last[..., None, None].expand(*at_last.shape, 1, embedded.shape[-1]))
        if self.kind == "last":
            return last.squeeze(-2)
        hidden = ~valid[..., None]
        if self.kind == "mean":
            shares = (valid[..., None] / valid.sum(-1).clamp(min=1)[..., None, None]).to(embedded.dtype)
        else:
            scores = self.scores(embedded) + self.places[: embedded.shape[-2]]
            shares = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-2)  # in each dimension
        return (last + ((embedded - last) * shares).masked_fill(hidden, 0).sum(-2, keepdim=True)).squeeze(-2)


class MicroLayer(nn.Module):
    """Causal attention and an MLP, each behind a norm."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_mlp = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * width, bias=False), nn.Linear(2 * width, width, bias=False)

    def heads(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, time, size)."""
        parts = self.qkv(self.norm(hidden)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        return query, key, value

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (rows, time, width) in and out."""
        query, key, value = self.heads(hidden)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(attended.transpose(1, 2).flatten(-2))
        after: Tensor = hidden + self.down(F.silu(self.up(self.norm_mlp(hidden))))
        return after


class MicroDecoder(nn.Module):
    """Writes the tokens of a segment behind its first one, from the macro state that it follows."""

    def __init__(self, width: int, n_heads: int, config: MicroConfig) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(config.most_tokens, width) * 0.02)
        self.norm_state = nn.RMSNorm(width)
        self.layers = nn.ModuleList(MicroLayer(width, n_heads) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        """States (rows, width) and the embeddings (rows, n, width) of a segment's first tokens, to hidden states
        (rows, n, width) of what follows each of them.
        """
        hidden = torch.cat([self.norm_state(state)[:, None], embedded], dim=1) + self.places[: embedded.shape[1] + 1]
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(hidden[:, 1:])  # type: ignore[no-any-return]


class MicroLM(nn.Module):
    """A base causal LM with a merger and a micro decoder, which share its embeddings and its head.

    The reference cuts texts into segments; it is no part of the weights, and is never trained.
    """

    def __init__(self, base: Any, config: MicroConfig, reference: Any) -> None:
        super().__init__()
        shape = base.config.get_text_config()
        self.base, self.micro_config, self.reference = base, config, [reference.eval()]  # in a list: not of its weights
        self.merger = Merger(shape.hidden_size, config)
        self.micro = MicroDecoder(shape.hidden_size, shape.num_attention_heads, config)
        for module in (self.merger, self.micro):
            module.to(base.device, base.dtype)

    @property
    def config(self) -> Any:
        return self.base.config

    @property
    def device(self) -> torch.device:
        return torch.device(self.base.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype  # type: ignore[no-any-return]

    def get_input_embeddings(self) -> Any:
        return self.base.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        return self.base.get_output_embeddings()

    def segments_of(self, ids: Tensor, openers: Sequence[Tensor]) -> Segments:
        """The segments of ids (batch, time); one begins behind every opener of a row."""
        return Segments.of(starts_of(self.reference[0], ids, self.micro_config, openers))

    def merged(self, embedded: Tensor, segments: Segments) -> Tensor:
        """Macro embeddings (batch, segments, width) of token embeddings (batch, time, width)."""
        table = segments.table
        rows = torch.arange(len(table), device=table.device)[:, None, None]
        return self.merger(embedded[rows, table.clamp(min=0)], table >= 0)  # type: ignore[no-any-return]

    @property
    def grid_positions(self) -> GridPositions | None:
        """The machine of a base that asks in which grid, row and column its tokens stand."""
        return getattr(self.config, "positions", None)

    def places(self, ids: Tensor, segments: Segments) -> Places:
        """Where the macro positions of ids (batch, time) stand: where the last token of each segment does."""
        if self.grid_positions is None:
            return {"position_ids": segments.last}
        places = places_of(ids, self.grid_positions)
        at = segments.last[..., None].expand(-1, -1, places.shape[-1])
        return {"position_ids": places.gather(1, at), "input_ids": ids.gather(1, segments.last)}

    def macro(self, merged: Tensor, places: Places, mask: Tensor | None = None, cache: Any = None) -> Tensor:
        """The macro step: states (batch, segments, width) of macro embeddings that stand at places.

        A mask (batch, segments so far) is given wherever positions leave numbers out: transformers would read them as
        several sequences.
        """
        decoder = self.base.get_decoder()
        options = {**places, "attention_mask": mask, "past_key_values": cache}
        output = decoder(inputs_embeds=merged, use_cache=cache is not None, **options)
        return output.last_hidden_state  # type: ignore[no-any-return]

    def hidden_before(self, ids: Tensor, segments: Segments) -> Tensor:
        """For every token the hidden state (batch, time, width) that predicts it; zeros for the first segment's."""
        embedded = self.get_input_embeddings()(ids)
        n_of_row = segments.number.amax(-1, keepdim=True)
        mask = torch.arange(segments.table.shape[1], device=ids.device) <= n_of_row
        plain = bool((n_of_row + 1 == ids.shape[1]).all())  # segments of one token each, and no padding among them
        states = self.macro(self.merged(embedded, segments), self.places(ids, segments), None if plain else mask.long())
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)  # (batch, segments, width)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        hidden = before[rows, segments.number]
        longer = segments.table[..., 1:2].squeeze(-1) >= 0 if segments.table.shape[-1] > 1 else mask & False
        longer[:, 0] = False
        if not bool(longer.any()):
            return hidden
        at, which = longer.nonzero(as_tuple=True)
        tokens = segments.table[at, which]  # (rows, most)
        written = self.micro(before[at, which], embedded[at[:, None], tokens[:, :-1].clamp(min=0)])
        valid = tokens[:, 1:] >= 0
        hidden = hidden.clone()
        hidden[at[:, None].expand_as(valid)[valid], tokens[:, 1:][valid]] = written[valid].to(hidden.dtype)
        return hidden

    def summed_loss(self, ids: Tensor, labels: Tensor, positions: Tensor | None) -> tuple[Tensor, int]:
        """(summed NLL in nats, number) of the labelled tokens, teacher forced; ids and labels (batch, time)."""
        if positions is not None:
            raise ConfigError("option batching: found packed, expected buckets for a micro-step model")
        segments = self.segments_of(ids, openers_of(ids, labels))
        kept = (labels != NOT_TRAINED) & (segments.number > 0)  # nothing predicts the first segment
        logits = self.get_output_embeddings()(self.hidden_before(ids, segments)[kept])
        return F.cross_entropy(logits.float(), labels[kept], reduction="sum"), int(kept.sum())
