"""A GGUF file becomes a model folder: weights in bf16, a tokenizer that knows its end token, and a card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.models.card import ModelCard, write_card
from arc_kaggle.system.files import digest
from arc_kaggle.text.presets import Preset, find_preset
from arc_kaggle.text.tokenizer_checks import check_notation

MAGIC = b"GGUF"
KEYS = ("architecture", "license", "url", "source.url", "file_type")
SPECIALS = ("bos", "eos", "unk", "pad")
README = """---
license: {license}
tags: [gguf, arc_kaggle]
---
# {name}

Made by `arc-kaggle import-gguf` of `{file}`.

| | |
|---|---|
| source | {source} |
| licence | {license} |
| SHA-256 of the file | `{sha256}` |
| quantised there as | {file_type} |
| architecture | {architecture}, {parameters:,} parameters |

The weights are bf16 here: what quantising took away does not come back. {prompt}
"""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself, and where it came from."""

    path: Path
    source: str
    license: str
    architecture: str
    file_type: str
    """How its weights are quantised, such as MOSTLY_Q4_1."""


def read_gguf(path: Path, source: str = "", license: str = "") -> GgufFile:
    """Read the general metadata of a file; `source` and `license` stand in for what it does not say.

    Raises ModelError where the package `gguf` is not installed, or the file is no GGUF file.
    """
    if find_spec("gguf") is None:
        raise ModelError(
            f"file {path}: found no package gguf, expected it to read the file; pip install 'arc_kaggle[gguf]'"
        )
    from gguf import GGUFReader, LlamaFileType

    try:
        with path.open("rb") as file:
            if (start := file.read(4)) != MAGIC:
                raise ModelError(f"file {path}: found {start!r} at its beginning, expected {MAGIC!r}, a GGUF file")
        fields = GGUFReader(path).fields
        said = {key: fields[f"general.{key}"].contents() for key in KEYS if f"general.{key}" in fields}
        quantised = LlamaFileType(said["file_type"]).name if "file_type" in said else "not said"
    except (OSError, ValueError, IndexError) as error:
        raise ModelError(f"file {path}: {error}, expected a GGUF file; download it again") from error
    return GgufFile(
        path,
        source or said.get("source.url") or said.get("url") or "not said",
        license or said.get("license") or "not said",
        said.get("architecture", "not said"),
        quantised,
    )


def write_model(file: GgufFile, folder: Path, prompt: str = "auto", encoder: str = "") -> ModelCard:
    """Write the model that a file holds into an existing folder; returns its card.

    `prompt` is the preset that the card names, `chat` for `auto` where the file has a chat template, else `plain`.
    Raises ModelError for an architecture that transformers cannot read, PromptError for a preset that does not fit.
    """
    network, tokenizer = _load(file)
    _name_specials(network, tokenizer)
    preset = find_preset(prompt if prompt != "auto" else "chat" if tokenizer.chat_template else "plain", tokenizer)
    preset = replace(preset, encoder=encoder or preset.encoder)
    try:
        check_notation(preset.notation(tokenizer))
    except PromptError as error:
        raise PromptError(f"file {file.path}: {error}; name what fits by --prompt and --encoder") from error
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = _card(file, preset, sum(weight.numel() for weight in network.parameters()))
    write_card(folder, card)
    text = README.format(file=file.path.name, prompt=f"Tasks are put to it by `{card.encoder}` grids.", **card.facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return card


def _load(file: GgufFile) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.path.name, "local_files_only": True}
    try:
        network = AutoModelForCausalLM.from_pretrained(file.path.parent, dtype=torch.bfloat16, **where)
        tokenizer = AutoTokenizer.from_pretrained(file.path.parent, **where)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"file {file.path}: {type(error).__name__}: {error}; transformers cannot read this {file.architecture}"
        ) from error
    network.hf_quantizer = None  # the weights are whole again, and can be saved
    vars(network.config).pop("quantization_config", None)
    return network, tokenizer


def _name_specials(network: Any, tokenizer: Any) -> None:
    """Give the tokenizer the special tokens whose ids the file names, which transformers mixes up.

    Trainers that mask padding would leave an end token out of the loss that also pads: the unknown token pads then.
    """
    ids = {name: getattr(network.config, f"{name}_token_id", None) for name in SPECIALS}
    if ids["pad"] in (None, ids["eos"]):
        ids["pad"] = ids["unk"] if ids["unk"] not in (None, ids["eos"]) else ids["eos"]
    for name, token_id in ids.items():
        if token_id is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(token_id))
    network.config.pad_token_id = network.generation_config.pad_token_id = ids["pad"]
    tokenizer.clean_up_tokenization_spaces = False  # else decoding would drop spaces
    tokenizer.model_max_length = network.config.get_text_config().max_position_embeddings


def _card(file: GgufFile, preset: Preset, n_parameters: int) -> ModelCard:
    facts = {
        "name": file.path.stem,
        "source": file.source,
        "license": file.license,
        "architecture": file.architecture,
        "file_type": file.file_type,
        "parameters": n_parameters,
        "sha256": digest(file.path),
    }
    return ModelCard(preset.format, "lora", facts, preset.encoder, preset.loss, preset.inputs)
