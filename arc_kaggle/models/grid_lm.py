"""GridLM: a causal language model whose tokens know their pair, row and column; a model type of transformers.

It is a decoder of the Llama kind over a vocabulary of some 16 tokens. What differs are its positions:

- Rotary positions of three parts: the number of the pair, the row and the column.
- A key stands where its token stands; a query stands where the token stands that it predicts. To copy a cell from the
  same place of another grid is then attention to an equal place, at the ends of rows and grids as anywhere else.
- Embeddings of the row, of the column, and of the side of the pair are added to those of the tokens.

Importing this module registers the type with AutoConfig and AutoModelForCausalLM, so that its folders load like any
other, without code of their own.
"""

from __future__ import annotations

from typing import Any

import arc_kaggle.models.lean_import  # isort: skip  # noqa: F401  (before the names of transformers)
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

from arc_kaggle.config.engines import GRID_MODEL_TYPE
from arc_kaggle.models.grid_places import next_places, places_of
from arc_kaggle.text.grid_positions import LAST_PLACE, GridPositions

PAIR_THETA, SIDE_THETA = 1000.0, 100.0
"""Slowest wavelengths of rotary positions: of the number of the pair, and of row and column."""


class GridLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes under the names of transformers, and the ids of the tokens that places follow from."""

    model_type = GRID_MODEL_TYPE

    vocab_size: int = 16
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    head_dim: int = 32
    max_position_embeddings: int = 16384
    """Longest text in tokens; no weight depends on it."""
    norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    input_token_id: int = 3
    output_token_id: int = 4
    newline_token_id: int = 5

    @property
    def positions(self) -> GridPositions:
        """The machine that says where a token stands; engines ask for it."""
        assert self.bos_token_id is not None
        return GridPositions(self.newline_token_id, self.input_token_id, self.output_token_id, self.bos_token_id)


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
    """Rotary positions (batch, 1, time, head_dim / 2) of places (batch, time, 3), as complex numbers of length 1."""
    numbers = torch.stack([places[..., 0] // 2, places[..., 1], places[..., 2]], dim=-1).float()
    angles = (numbers @ frequencies(head_dim, places.device))[:, None]
    return torch.polar(torch.ones_like(angles), angles)


def turn(states: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) on states (batch, heads, time, size).

    Neighbours are the two parts of a complex number, for one product of those is what a CPU does fastest.
    """
    numbers = torch.view_as_complex(states.float().view(*states.shape[:-1], -1, 2))
    return torch.view_as_real(numbers * turns).flatten(-2).to(states.dtype)


def norm(size: int, config: GridLMConfig) -> nn.LayerNorm:
    """LayerNorm without bias: unlike RMSNorm it has a kernel on a CPU, six times as fast."""
    return nn.LayerNorm(size, config.norm_eps, bias=False)


class Attention(nn.Module):
    """Causal attention with normalised queries and keys (Henry et al. 2020, arXiv:2010.04245)."""

    def __init__(self, config: GridLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
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
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, _ = attend(self, query, key, value, mask, dropout=0.0, scaling=self.scaling)
        return self.o_proj(output.reshape(*hidden.shape[:-1], -1))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """The MLP (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: GridLMConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (batch, time, width) in and out."""
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))  # type: ignore[no-any-return]


class GridLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention, then the MLP, each behind a norm and beside the residual stream."""

    def __init__(self, config: GridLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = norm(config.hidden_size, config)
        self.self_attn = Attention(config, layer_idx)
        self.post_attention_layernorm = norm(config.hidden_size, config)
        self.mlp = SwiGLU(config)

    def forward(self, hidden: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor | None, cache: Any) -> Tensor:
        """Hidden states (batch, time, width) in and out."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), turns, mask, cache)
        after: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return after


class GridPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers must know of the type."""

    config_class = GridLMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal weights, and norms that scale by one."""
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)


class GridModel(GridPreTrainedModel):
    """The network up to the head."""

    def __init__(self, config: GridLMConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.embed_side = nn.Embedding(2, width)
        self.embed_row, self.embed_column = (nn.Embedding(LAST_PLACE + 1, width) for _ in range(2))
        self.layers = nn.ModuleList([GridLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = norm(width, config)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of ids (batch, time); embeddings (batch, time, width) stand in place of the tokens' own.

        `position_ids` are places (batch, time, 3), which a cache needs; or, as elsewhere in transformers, the number
        of each token in its example (batch, time), where rows hold several; places then follow from the ids.
        """
        if past_key_values is not None and (position_ids is None or position_ids.ndim != 3):
            raise ValueError("position_ids: found no places, expected places (batch, time, 3) beside a cache")
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        machine, given = self.config.positions, position_ids
        depths = None if given is None or given.ndim == 3 else given
        places = given if given is not None and given.ndim == 3 else places_of(input_ids, machine, depths)
        ahead = next_places(places, input_ids, machine)
        own = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = own + self.embed_side(ahead[..., 0] % 2)
        hidden = hidden + self.embed_row(places[..., 1]) + self.embed_column(places[..., 2])
        mask = create_causal_mask(self.config, hidden, attention_mask, past_key_values, depths)
        turns = turns_of(ahead, self.config.head_dim), turns_of(places, self.config.head_dim)
        for layer in self.layers:
            hidden = layer(hidden, turns, mask, past_key_values)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=past_key_values)


class GridLM(GridPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The network with its head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (transformers' own form)

    def __init__(self, config: GridLMConfig) -> None:
        super().__init__(config)
        self.model = GridModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor, logits_to_keep: int | Tensor = 0, **options: Any) -> CausalLMOutputWithPast:
        """Logits (batch, time, vocab), of all places or of those to keep; options as for `GridModel`."""
        output = self.model(input_ids, **options)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> dict[str, Any]:
        """What transformers' own `generate` hands to `forward`: with the places, which follow from all ids so far.

        The mask (batch, time) hides padding on the left, behind which a text begins as it would without.
        """
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, **options
        )
        depths = None if attention_mask is None else (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        places = places_of(input_ids, self.config.positions, depths)
        return {**inputs, "position_ids": places[:, -inputs["input_ids"].shape[1] :]}


AutoConfig.register(GRID_MODEL_TYPE, GridLMConfig)
AutoModelForCausalLM.register(GridLMConfig, GridLM)
