"""A 4-bit base: linear layers in nf4 (Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes, for LoRA and answers.

Named modules stay as they are, and the head, and the routers and the experts of a mixture of experts. In transformers 5
experts that are one stacked tensor instead of linear layers stay so whatever is named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.errors import ModelError

if TYPE_CHECKING:
    import torch


HEADS = ("lm_head", "embed_out")
"""Names of heads, which are never quantised."""


def nf4_options(compute: torch.dtype, device: torch.device, skip: Sequence[str] = FOUR_BIT_SKIP) -> dict[str, Any]:
    """What `from_pretrained` takes to load a model in 4 bits onto a device. Raises ModelError without bitsandbytes.

    Modules named in `skip`, and all below them, are not quantised, and beside them those of FOUR_BIT_SKIP; where `skip`
    is empty the head alone is left. The scales are quantised, too (double
    quantisation): 4.1 bits a weight instead of 4.5.
    """
    if missing := [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]:
        raise ModelError(
            f"option four_bit: found no package {' and '.join(missing)}, expected it to hold the weights in 4 bits; "
            "pip install 'arc_kaggle[four-bit]'"
        )
    from transformers import BitsAndBytesConfig

    names = dict.fromkeys([*HEADS, *(FOUR_BIT_SKIP if skip else ()), *skip])
    left_alone = [pattern for name in names for pattern in (name, rf"(.*\.)?{re.escape(name)}\.")]
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=left_alone,
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def keep_one_layout(network: Any) -> Any:
    """The network, its 4-bit layers kept from packing themselves anew. Raises ModelError where the head is 4-bit.

    At its first answer on a CPU with AVX512-BF16 bitsandbytes 0.50 packs a layer for inference alone: its scales are
    rounded to bf16, and no gradient passes it from then on, without a word. Tasks after the first would be tuned wrong.
    """
    from bitsandbytes.nn import Linear4bit

    if isinstance(network.get_output_embeddings(), Linear4bit):
        raise ModelError(
            f"option four_bit: found the head of {type(network).__name__} in 4 bits, expected it left alone; its name "
            f"ends in none of {', '.join(HEADS)}; name it with --four-bit-skip"
        )
    for layer in network.modules():
        if isinstance(layer, Linear4bit):
            layer.support_avx512bf16_for_cpu = False
    return network
