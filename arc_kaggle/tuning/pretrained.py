"""A pretrained LoRA adapter: attached to a model, fitted to its vocabulary, or merged into its base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arc_kaggle.config.adapter import FACTORS_FILE, read_adapter_config
from arc_kaggle.errors import ModelError

KEPT_FILE = "kept_tokens.json"
"""Beside the factors of an adapter that was trained on a cut vocabulary: the ids of the tokens that were kept."""


def attach(network: Any, folder: Path, kept: Sequence[int] | None = None) -> Any:
    """The peft model of a network with the adapter of a folder on it, its factors in fp32 and trainable.

    `kept` are the ids of the tokens that the network still has, where its vocabulary was cut. Dropout is left out:
    which examples come is all that chance decides. Raises ModelError for an adapter that does not fit.
    """
    import peft

    read_adapter_config(folder)
    config = peft.PeftConfig.from_pretrained(str(folder))
    config.inference_mode, config.lora_dropout, config.init_lora_weights = False, 0.0, True
    try:
        with warnings.catch_warnings():  # peft warns of merging into tied weights; nothing is merged here
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            peft_model: Any = peft.get_peft_model(network, config)
    except ValueError as error:
        raise ModelError(f"adapter {folder}: {error}, expected modules of this model; name its own base") from error
    load_factors(peft_model, network, folder, kept)
    return peft_model


def load_factors(peft_model: Any, network: Any, folder: Path, kept: Sequence[int] | None = None) -> None:
    """Give an adapter that is attached the factors of a folder. Raises ModelError where they do not fit."""
    import peft

    expected = peft.get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    factors, known = _read_factors(folder, expected), trained_tokens(folder)
    if known != kept:
        head = _path_of(network, network.get_output_embeddings())
        n_tokens = len(network.get_input_embeddings().weight)
        factors = {
            name: _by_token(factor, _axis(name, head), known, kept, n_tokens) for name, factor in factors.items()
        }
    for name, factor in factors.items():
        if factor.shape != (shape := expected[name].shape):
            raise ModelError(
                f"adapter {folder}: found shape {tuple(factor.shape)} of {name}, expected {tuple(shape)}; name the "
                "base that it was trained on"
            )
    peft.set_peft_model_state_dict(peft_model, factors)


def _read_factors(folder: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        factors = load_file(folder / FACTORS_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"adapter {folder}: {type(error).__name__}: {error}, expected {FACTORS_FILE}") from error
    missing, unknown = (sorted(a.keys() - b.keys()) for a, b in ((expected, factors), (factors, expected)))
    if missing or unknown:
        lacks = f"it lacks {len(missing)}, such as {missing[0]}" if missing else "it lacks none"
        has = f"has {len(unknown)} others, such as {unknown[0]}" if unknown else "has no others"
        raise ModelError(f"adapter {folder}: {lacks}, and {has}; expected the {len(expected)} factors of this model")
    if bad := [name for name, tensor in factors.items() if not bool(tensor.isfinite().all())]:
        raise ModelError(f"adapter {folder}: found numbers in {bad[0]} that are not finite, expected finite ones")
    return factors


def _path_of(network: Any, wanted: nn.Module | None) -> str:
    return next((path for path, module in network.named_modules() if module is wanted), "")


def _axis(name: str, head: str) -> int | None:
    """The axis of a factor that has a place for every token, where it has one."""
    if "lora_embedding_A" in name:
        return 1
    return 0 if name.startswith(f"base_model.model.{head}.lora_B.") else None


def _by_token(
    factor: Tensor, axis: int | None, known: Sequence[int] | None, kept: Sequence[int] | None, n_tokens: int
) -> Tensor:
    """A factor over the network's `kept` or `n_tokens` tokens, from one over those `known` to training.

    It is zero for tokens that training did not have.
    """
    if axis is None:
        return factor
    if known is not None:
        shape = list(factor.shape)
        shape[axis] = max(1 + max(*known, *(kept or ())), n_tokens if kept is None else 0)
        factor = torch.zeros(shape, dtype=factor.dtype).index_copy(axis, torch.tensor(known), factor)
    if kept is None or max(kept) >= factor.shape[axis]:
        return factor
    return factor.index_select(axis, torch.tensor(kept))


def trained_tokens(folder: Path) -> tuple[int, ...] | None:
    """Ids of the tokens that an adapter was trained with; None for all of them."""
    path = folder / KEPT_FILE
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_trained_tokens(folder: Path, kept: Sequence[int] | None) -> None:
    if kept is not None:
        (folder / KEPT_FILE).write_text(json.dumps(list(kept)), encoding="utf-8")


def merge_in(network: Any, folder: Path, kept: Sequence[int] | None = None) -> Any:
    """The network with an adapter merged into its weights, in place; all of them can be trained. Raises ModelError.

    Embeddings and a head that share one weight get one each where the adapter changes either.
    """
    peft_model = attach(network, folder, kept)
    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    bare = [getattr(end, "base_layer", end) for end in ends]
    if ends != bare and None not in bare and bare[0].weight is bare[1].weight:
        bare[1].weight = nn.Parameter(bare[1].weight.detach().clone())
        network.config.tie_word_embeddings = False
    merged = peft_model.merge_and_unload()
    for parameter in merged.parameters():  # peft had frozen the base
        parameter.requires_grad_(parameter.is_floating_point())
    return merged
