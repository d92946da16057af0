"""GridLM: a causal language model whose tokens know their pair, row and column; a model type of transformers.

The network itself is `arc_kaggle.models.grid_network`. Importing this module registers the type with AutoConfig and
AutoModelForCausalLM, so that its folders load like any other, without code of their own.
"""

from __future__ import annotations

from typing import Any

import arc_kaggle.models.lean_import  # isort: skip  # noqa: F401  (before the names of transformers)
import torch
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
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

from arc_kaggle.config.engines import GRID_MODEL_TYPE
from arc_kaggle.models.grid_network import GridDecoder, positions_of, with_logits
from arc_kaggle.models.grid_places import places_of
from arc_kaggle.text.grid_positions import GridPositions


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
        return positions_of(self)


class StockKernel:
    """Attention and masks as the config of transformers names them."""

    def __init__(self, config: GridLMConfig) -> None:
        self.config = config

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, _ = attend(module, query, key, value, mask, dropout=0.0, scaling=scaling)
        return output  # type: ignore[no-any-return]

    def mask(self, hidden: Tensor, given: Tensor | None, cache: Any, depths: Tensor | None) -> Tensor | None:
        return create_causal_mask(self.config, hidden, given, cache, depths)  # type: ignore[no-any-return]


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


class GridModel(GridDecoder, GridPreTrainedModel):
    """The network up to the head."""

    def __init__(self, config: GridLMConfig) -> None:
        GridPreTrainedModel.__init__(self, config)  # type: ignore[call-arg]
        self.build(config, StockKernel(config))
        GridPreTrainedModel.post_init(self)


class GridLM(GridPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The network with its head."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (transformers' own form)

    def __init__(self, config: GridLMConfig) -> None:
        super().__init__(config)
        self.model = GridModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        logits_to_keep: int | Tensor = 0,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, time, vocab), of all places or of those to keep; options as for `GridDecoder`."""
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
            position_ids = places_of(input_ids, self.config.positions) if position_ids is None else position_ids
        output = with_logits(
            self, input_ids, logits_to_keep, position_ids=position_ids, past_key_values=past_key_values, **options
        )
        return CausalLMOutputWithPast(logits=output.logits, past_key_values=output.past_key_values)

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
