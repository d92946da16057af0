"""Loading and saving of models: any Hugging Face causal LM folder, with the notation that its card names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from arc_kaggle.config.engines import FOUR_BIT_SKIP
from arc_kaggle.config.micro import check_plain
from arc_kaggle.config.model import CARD_FILE, ModelOptions, has_grid_positions
from arc_kaggle.config.tune import Precision
from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.models.card import ModelCard, read_card, write_card
from arc_kaggle.models.four_bit import keep_one_layout, nf4_options
from arc_kaggle.models.grid_network import GridNetwork
from arc_kaggle.models.weight_files import load_grid_network, load_network, one_line
from arc_kaggle.text.encoders import GridEncoder
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import Preset, changed, find_preset
from arc_kaggle.text.tokenizer_checks import check_notation
from arc_kaggle.text.tokenizer_file import FileTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A causal LM, the notation that it reads and writes, and the ids that end an answer and fill a batch."""

    network: PreTrainedModel | GridNetwork
    notation: Notation
    end_id: int
    pad_id: int
    autocast: torch.dtype | None
    """Compute type of matrix products over fp32 weights; None where weights and products have one type."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return cast("PreTrainedTokenizerBase", self.notation.tokenizer)

    @property
    def encoder(self) -> GridEncoder:
        return self.notation.encoder

    @property
    def device(self) -> torch.device:
        return torch.device(self.network.device)

    def computing(self) -> torch.autocast:
        """A context in which the network computes in its precision."""
        return torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None)


def load_model(
    folder: str | Path,
    precision: Precision = "auto",
    device: str = "auto",
    prompt: str = "auto",
    encoder: str = "",
    four_bit: bool = False,
    card: Path | None = None,
    four_bit_skip: Sequence[str] = FOUR_BIT_SKIP,
    all_trained: bool = False,
    alone: bool = False,
) -> LoadedModel:
    """Load a model folder from disk, never from a network. Raises ModelError or PromptError.

    `prompt` and `encoder` are explained at `pick_preset`, `four_bit` in `arc_kaggle.models.four_bit`. `card` is the
    folder of another card in place of the model's own, such as an adapter's.

    `auto` precision: bf16 products over fp32 weights on a CPU that has them, else fp32; on a GPU bf16 from compute
    capability 8.0 on, else fp16 (a T4 has no bf16). With `all_trained` weights are fp32 there, too, and only products
    are computed in less: small steps would be rounded away.

    `alone` says that no adapter will be attached: a GridLM is then loaded without transformers, whose import would be
    half of what such a process takes to start.
    """
    folder = Path(folder)
    skipped = four_bit_skip if four_bit else None
    alone = alone and not four_bit and has_grid_positions(folder) and any(folder.glob("*.safetensors"))
    network, autocast = _load_network(folder, precision, device, skipped, all_trained, alone)
    tokenizer = FileTokenizer(folder) if alone else load_tokenizer(folder)
    return in_notation(network, pick_preset(card or folder, tokenizer, prompt, encoder).notation(tokenizer), autocast)


def load_text_model(
    folder: Path,
    precision: Precision = "auto",
    device: str = "auto",
    four_bit: bool = False,
    four_bit_skip: Sequence[str] = FOUR_BIT_SKIP,
) -> LoadedModel:
    """Load a model folder for prompts of any text: nobody asks whether its tokenizer could write grids.

    The notation of its card is kept, and answers end with the eos token. Raises ModelError, PromptError.
    """
    network, autocast = _load_network(folder, precision, device, four_bit_skip if four_bit else None)
    tokenizer = load_tokenizer(folder)
    notation = pick_preset(folder, tokenizer).notation(tokenizer)
    end_id = tokenizer.eos_token_id
    if end_id is None:
        raise ModelError(f"model folder {folder}: found no eos token, expected one to end answers with")
    pad_id = end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return LoadedModel(network.eval(), notation, end_id, pad_id, autocast)


def _load_network(
    folder: Path,
    precision: Precision,
    device: str,
    four_bit_skip: Sequence[str] | None,
    all_trained: bool = False,
    alone: bool = False,
) -> tuple[Any, torch.dtype | None]:
    """(network on its device, autocast type); in 4 bits but for some modules where these are given."""
    target = pick_device(device)
    chosen = pick_precision(target, precision)
    dtype, autocast = types_of(target, chosen, all_trained)
    if alone:
        return load_grid_network(folder, dtype).to(target), autocast
    options = {} if four_bit_skip is None else nf4_options(DTYPES[chosen], target, four_bit_skip)
    network = load_network(folder, dtype, **options)
    return (network.to(target) if four_bit_skip is None else keep_one_layout(network)), autocast


def types_of(device: torch.device, precision: str, all_trained: bool) -> tuple[torch.dtype, torch.dtype | None]:
    """(type of the weights, type of products over fp32 weights where that is another) in a precision on a device."""
    chosen, in_fp32 = DTYPES[precision], device.type == "cpu" or all_trained
    return (torch.float32, None if chosen is torch.float32 else chosen) if in_fp32 else (chosen, None)


def load_asked(options: ModelOptions) -> LoadedModel:
    """The model of a command's options: its vocabulary is whole, and no adapter is attached. Raises as `load_model`."""
    where = options.model, options.precision, options.device
    four_bit = options.four_bit, options.card_folder, options.four_bit_skip
    weights, alone = options.tune.weights, options.tune.weights != "lora" and not options.adapter
    return load_model(*where, options.prompt, options.encoder, *four_bit, all_trained=weights == "all", alone=alone)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, as transformers has it. Raises ModelError for one that cannot be read."""
    from transformers import AutoTokenizer, PreTrainedConfig

    if not folder.is_dir():  # transformers would look for its name on a network
        raise ModelError(f"model folder {folder}: found no such folder, expected one with a tokenizer")
    check_plain(folder)
    # transformers would warn of a model type that it knows only where a network of it was loaded
    known = {"config": PreTrainedConfig()} if has_grid_positions(folder) else {}
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **known)
    except Exception as error:  # its libraries raise what they like
        raise ModelError(f"model folder {folder}: found no tokenizer that can be read: {one_line(error)}") from error


def in_notation(network: Any, notation: Notation, autocast: torch.dtype | None) -> LoadedModel:
    """A network with the notation that it is asked in. Raises PromptError where its tokenizer does not carry that."""
    end_id = check_notation(notation)
    pad_id = getattr(notation.tokenizer, "pad_token_id", None)
    return LoadedModel(network.eval(), notation, end_id, end_id if pad_id is None else pad_id, autocast)


def pick_device(device: str) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_precision(device: torch.device, precision: Precision = "auto") -> str:
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    features: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.11
    return "bf16" if features.get("avx512_bf16") or features.get("amx_bf16") else "fp32"


def pick_preset(folder: Path, tokenizer: Any, prompt: str = "auto", encoder: str = "") -> Preset:
    """How tasks are put to a model: a preset by name, or for `auto` what its card says, or plain without a card.

    `encoder` is a spec in place of the preset's own. Raises PromptError, ConfigError or ModelError.
    """
    name, *added = prompt.split("+")
    if name != "auto":
        preset = find_preset(prompt, tokenizer)
    else:
        card = read_card(folder)
        preset = changed(card.preset(tokenizer) if card else _plain_preset(folder, tokenizer), added)
    return replace(preset, encoder=encoder) if encoder else preset


def _plain_preset(folder: Path, tokenizer: Any) -> Preset:
    if tokenizer.eos_token is None:
        raise PromptError(f"model folder {folder}: found neither {CARD_FILE} nor an eos token to end answers with")
    return find_preset("plain", tokenizer)


def save_model(model: LoadedModel, folder: Path, recipe: str, facts: dict[str, Any]) -> None:
    """Write weights (bf16 safetensors, tied ones once, at most 15 MB a file), tokenizer and card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in stock_weights(model.network).items()}
    model.network.save_pretrained(folder, state_dict=weights, max_shard_size="15MB")
    model.tokenizer.save_pretrained(folder)
    write_card(folder, ModelCard.of(model.notation, recipe, facts))


def stock_weights(network: Any) -> dict[str, torch.Tensor]:
    """The state dict of a network, tied weights once, and those that are computed from parts as what they come to."""
    state = {name: tensor for name, tensor in network.state_dict().items() if ".parametrizations." not in name}
    embeddings = network.get_input_embeddings()
    path = next(path for path, module in network.named_modules() if module is embeddings)
    weights = {f"{path}.weight": embeddings.weight.detach()}
    for name, tensor in state.items():
        if all(tensor.data_ptr() != known.data_ptr() for known in weights.values()):
            weights[name] = tensor
    return weights
