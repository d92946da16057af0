"""The network of GridLM in torch alone: a process that answers and tunes need not wait for imports of transformers.

It is a decoder of the Llama kind over a vocabulary of some 16 tokens. What differs are its positions:

- Rotary positions of three parts: the number of the pair, the row and the column.
- A key stands where its token stands; a query stands where the token stands that it predicts. To copy a cell from the
  same place of another grid is then attention to an equal place, at the ends of rows and grids as anywhere else.
- Embeddings of the row, of the column, and of the side of the pair are added to those of the tokens.

`arc_kaggle.models.grid_lm` is the same network as a model type of transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from arc_kaggle.models.grid_places import next_places, places_of
from arc_kaggle.system.files import write_json
from arc_kaggle.text.grid_positions import LAST_PLACE, GridPositions

Attend = Callable[..., tuple[Tensor, Any]]
"""Attention as transformers calls it: (module, query, key, value, mask, scaling=...) -> (output, weights or None)."""

PAIR_THETA, SIDE_THETA = 1000.0, 100.0
"""Slowest wavelengths of rotary positions: of the number of the pair, and of row and column."""


def frequencies(head_dim: int, device: torch.device) -> Tensor:
    """Angles in radians a step of (pair, row, column), (3, head_dim / 2): a quarter of them turns with the pair."""
    n_pair = head_dim // 8
    n_row = (head_dim // 2 - n_pair) // 2
    sizes = (n_pair, n_row, head_dim // 2 - n_pair - n_row)
    thetas = (PAIR_THETA, SIDE_THETA, SIDE_THETA)
    parts = [theta ** (-torch.arange(n, device=device) / n) for theta, n in zip(thetas, sizes, strict=True)]
    table: Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
    return table


def turns_of(places: Tensor, head_dim: int) -> Tensor:
    """Rotary positions (batch, 1, time, head_dim / 2) of places (batch, time, 3), as complex numbers of length 1.

    Angles are fp32 whatever products are computed in: bf16 would round them, and on a GPU has no complex numbers.
    """
    numbers = torch.stack([places[..., 0] // 2, places[..., 1], places[..., 2]], dim=-1).float()
    with torch.autocast(places.device.type, enabled=False):
        angles = (numbers @ frequencies(head_dim, places.device))[:, None]
    return torch.polar(torch.ones_like(angles), angles)


def turn(states: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) on states (batch, heads, time, size).

    Neighbours are the two parts of a complex number, for one product of those is what a CPU does fastest.
    """
    numbers = torch.view_as_complex(states.float().view(*states.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * turns).flatten(-2).to(states.dtype)


def norm(size: int, config: Any) -> nn.LayerNorm:
    """LayerNorm without bias: unlike RMSNorm it has a kernel on a CPU, six times as fast."""
    return nn.LayerNorm(size, config.norm_eps, bias=False)


class Kernel(Protocol):
    """How tokens look at others, which is what differs between this network alone and in transformers."""

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        """Attention (batch, time, heads, size) of queries, keys and values (batch, heads, time, size)."""
        ...

    def mask(self, hidden: Tensor, given: Tensor | None, cache: Any, depths: Tensor | None) -> Tensor | None:
        """What `attend` gets for a mask, for hidden states (batch, time, width); None for nothing but the causal one.

        `depths` (batch, time) are the numbers of tokens in their examples, where rows hold several.
        """
        ...


class Attention(nn.Module):
    """Causal attention with normalised queries and keys (Henry et al. 2020, arXiv:2010.04245)."""

    def __init__(self, config: Any, kernel: Kernel, layer_idx: int) -> None:
        super().__init__()
        self.config, self.kernel, self.layer_idx, self.is_causal = config, kernel, layer_idx, True
        self.num_key_value_groups, self.scaling = 1, config.head_dim**-0.5
        width = config.num_attention_heads * config.head_dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(config.hidden_size, width, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.q_norm, self.k_norm = norm(config.head_dim, config), norm(config.head_dim, config)

    def forward(self, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor | None, cache: Any) -> Tensor:
        """Hidden states (batch, time, width) in and out; `turns` are those of queries and of keys."""
        heads = (*hidden.shape[:-1], -1, self.config.head_dim)
        query, key = self.q_norm(self.q_proj(hidden).view(heads)), self.k_norm(self.k_proj(hidden).view(heads))
        query, key = turn(query.transpose(1, 2), turns[0]), turn(key.transpose(1, 2), turns[1])
        value = self.v_proj(hidden).view(heads).transpose(1, 2)
        query, key = query.to(value.dtype), key.to(value.dtype)  # norms are computed in fp32
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        output = self.kernel.attend(self, query, key, value, mask, self.scaling)
        return self.o_proj(output.reshape(*hidden.shape[:-1], -1))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """The MLP (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (batch, time, width) in and out."""
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))  # type: ignore[no-any-return]


class GridLayer(nn.Module):
    """Attention, then the MLP, each behind a norm and beside the residual stream."""

    def __init__(self, config: Any, kernel: Kernel, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = norm(config.hidden_size, config)
        self.self_attn = Attention(config, kernel, layer_idx)
        self.post_attention_layernorm = norm(config.hidden_size, config)
        self.mlp = SwiGLU(config)
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Any] = partial(checkpoint, use_reentrant=False)
        """Both under the names by which transformers sets them."""

    def __call__(self, *given: Any) -> Tensor:
        """As `forward`; where gradients are checkpointed it is run again in the backward pass."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(super().__call__, *given)  # type: ignore[no-any-return]
        return super().__call__(*given)  # type: ignore[no-any-return]

    def forward(self, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor | None, cache: Any) -> Tensor:
        """Hidden states (batch, time, width) in and out."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), turns, mask, cache)
        after: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return after


@dataclass(frozen=True, slots=True, eq=False)
class GridOutput:
    """What comes out of a decoder or of a network, under the names of transformers."""

    last_hidden_state: Tensor
    """(batch, time, width)."""
    past_key_values: Any = None
    logits: Any = None
    """(batch, time, vocab); None of a decoder."""


class GridDecoder(nn.Module):
    """The network up to the head."""

    def __init__(self, config: Any, kernel: Kernel) -> None:
        super().__init__()
        self.build(config, kernel)

    def build(self, config: Any, kernel: Kernel) -> None:
        """Make all modules, with random weights."""
        width = config.hidden_size
        self.config, self.kernel = config, kernel
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embed_side = nn.Embedding(2, width)
        self.embed_row, self.embed_column = (nn.Embedding(LAST_PLACE + 1, width) for _ in range(2))
        self.layers = nn.ModuleList([GridLayer(config, kernel, i) for i in range(config.num_hidden_layers)])
        self.norm = norm(width, config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> GridOutput:
        """Hidden states of ids (batch, time); embeddings (batch, time, width) stand in place of the tokens' own.

        `position_ids` are places (batch, time, 3), which a cache needs; or, as elsewhere in transformers, the number
        of each token in its example (batch, time), where rows hold several; places then follow from the ids.
        """
        if past_key_values is not None and (position_ids is None or position_ids.ndim != 3):
            raise ValueError("position_ids: found no places, expected places (batch, time, 3) beside a cache")
        machine, given = self.config.positions, position_ids
        depths = None if given is None or given.ndim == 3 else given
        places = given if given is not None and given.ndim == 3 else places_of(input_ids, machine, depths)
        ahead = next_places(places, input_ids, machine)
        own = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = own + self.embed_side(ahead[..., 0] % 2)
        hidden = hidden + self.embed_row(places[..., 1]) + self.embed_column(places[..., 2])
        mask = self.kernel.mask(hidden, attention_mask, past_key_values, depths)
        turns = turns_of(ahead, self.config.head_dim), turns_of(places, self.config.head_dim)
        for layer in self.layers:
            hidden = layer(hidden, turns, mask, past_key_values)
        return GridOutput(self.norm(hidden), past_key_values)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float
) -> tuple[Tensor, None]:
    """Attention by torch's kernel, as transformers calls it; (batch, heads, time, size) in, (batch, time, ...) out."""
    is_causal = attention_mask is None and query.shape[2] > 1
    output = F.scaled_dot_product_attention(query, key, value, attention_mask, is_causal=is_causal, scale=scaling)
    return output.transpose(1, 2), None


class TorchKernel:
    """Torch's kernel; masks come ready, (batch, 1, time, slots), or are of the examples in a row."""

    def __init__(self) -> None:
        self.attention: Attend = attend

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        return self.attention(module, query, key, value, mask, scaling=scaling)[0]

    def mask(self, hidden: Tensor, given: Tensor | None, cache: Any, depths: Tensor | None) -> Tensor | None:
        if given is not None and given.ndim != 4:
            raise ValueError(f"attention_mask: found {given.ndim} dimensions, expected (batch, 1, time, slots)")
        if given is not None or depths is None:
            return given
        example = (depths == 0).cumsum(dim=1)  # (batch, time)
        return (example[:, None, :, None] == example[:, None, None, :]).tril()


class GridSizes:
    """The entries of a config.json as attributes, as the config of transformers has them."""

    hidden_size: int
    max_position_embeddings: int
    vocab_size: int
    _attn_implementation = "sdpa"

    def __init__(self, entries: Mapping[str, Any]) -> None:
        vars(self).update(entries)

    @property
    def positions(self) -> GridPositions:
        """The machine that says where a token stands; engines ask for it."""
        return positions_of(self)

    def get_text_config(self) -> GridSizes:
        return self

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def positions_of(config: Any) -> GridPositions:
    """The machine that says where a token stands, by the ids that places follow from."""
    return GridPositions(config.newline_token_id, config.input_token_id, config.output_token_id, config.bos_token_id)


class GridNetwork(nn.Module):
    """The network with its head, in torch alone; what else is here is what engines and tuners ask any network for."""

    supports_gradient_checkpointing = True

    def __init__(self, config: GridSizes) -> None:
        super().__init__()
        self.config, self.kernel = config, TorchKernel()
        self.model = GridDecoder(config, self.kernel)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, logits_to_keep: int | Tensor = 0, **options: Any) -> GridOutput:
        """Logits (batch, time, vocab), of all places or of those to keep; options as for `GridDecoder`."""
        return with_logits(self, input_ids, logits_to_keep, **options)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def save_pretrained(self, folder: Path, state_dict: Mapping[str, Tensor], max_shard_size: str = "5GB") -> None:
        """Write config.json and weights, at most `max_shard_size` a file; transformers loads them as a GridLM."""
        from huggingface_hub import split_state_dict_into_shards_factory
        from safetensors.torch import save_file

        shards = split_state_dict_into_shards_factory(
            dict(state_dict),
            get_storage_size=lambda tensor: tensor.nbytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_size,
        )
        for stale in folder.glob("model*.safetensors*"):
            stale.unlink()
        for name, tensors in shards.filename_to_tensors.items():
            save_file({each: state_dict[each] for each in tensors}, folder / name, metadata={"format": "pt"})
        if shards.is_sharded:
            index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
            write_json(folder / "model.safetensors.index.json", index)
        write_json(folder / "config.json", self.config.to_dict())

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_decoder(self) -> nn.Module:
        return self.model

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None) -> None:
        self._checkpoint(True)

    def gradient_checkpointing_disable(self) -> None:
        self._checkpoint(False)

    def _checkpoint(self, whether: bool) -> None:
        for layer in self.model.layers:
            setattr(layer, "gradient_checkpointing", whether)  # noqa: B010 (modules of a list have no type)

    @contextmanager
    def attending_by(self, attention: Attend) -> Iterator[None]:
        """Within it tokens attend by another function that transformers would call."""
        self.kernel.attention, before = attention, self.kernel.attention
        try:
            yield
        finally:
            self.kernel.attention = before


def with_logits(network: Any, input_ids: Tensor, logits_to_keep: int | Tensor, **options: Any) -> GridOutput:
    """The output of a network's decoder, and the logits of all places or of those to keep."""
    output = network.model(input_ids, **options)
    kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
    logits = network.lm_head(output.last_hidden_state[:, kept])
    return replace(output, logits=logits)  # type: ignore[no-any-return]
