"""The model card: which prompt and which recipe the weights of a folder were made for, and how they were made."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from arc_kaggle.config.model import CARD_FILE
from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.system.files import write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import Preset, find_preset
from arc_kaggle.text.prompt_format import PromptFormat


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """`recipe` names how the model is tuned at test time; `facts` say how it was made."""

    prompt_format: PromptFormat | None
    """The format itself; None where the card names a prompt instead."""
    recipe: str = "lora"
    facts: dict[str, Any] = field(default_factory=dict)
    encoder: str = ""
    """Encoder spec; the prompt's own where empty."""
    loss: Loss | None = None
    """What a training prompt trains; the prompt's own where None."""
    inputs_format: PromptFormat | None = None
    prompt: str = ""
    """Name of the prompt, as `--prompt` takes it, in place of a format."""

    def __post_init__(self) -> None:
        """Raises PromptError."""
        if (self.prompt_format is None) is not bool(self.prompt):
            found = f"prompt_format and prompt {self.prompt!r}" if self.prompt else "neither prompt nor prompt_format"
            raise PromptError(f"found {found}, expected one of the two")

    @classmethod
    def of(cls, notation: Notation, recipe: str, facts: dict[str, Any]) -> ModelCard:
        """The card of a model that reads and writes this notation."""
        return cls(notation.format, recipe, facts, notation.encoder.spec, notation.loss, notation.inputs)

    def preset(self, tokenizer: Any) -> Preset:
        """How tasks are put to the model that has this tokenizer. Raises PromptError."""
        if self.prompt_format is None:
            preset = find_preset(self.prompt, tokenizer)
        else:
            preset = Preset(self.prompt_format, inputs=self.inputs_format)
        return replace(preset, encoder=self.encoder or preset.encoder, loss=self.loss or preset.loss)


_KINDS = {"recipe": str, "facts": dict, "encoder": str, "loss": str, "prompt": str}


def read_card(folder: Path) -> ModelCard | None:
    """The card of a model folder; None where it has none. Raises ModelError for one that cannot be read."""
    path = folder / CARD_FILE
    if not path.exists():
        return None
    try:
        value = read_json_file(path)
        if not isinstance(value, dict):
            raise PromptError(f"found {value!r:.60}, expected an object")
        return ModelCard(**{"prompt_format": None} | dict(_read_field(name, found) for name, found in value.items()))
    except (OSError, ValueError, PromptError) as error:
        found = error if isinstance(error, PromptError) else repr(error)
        raise ModelError(f"{path}: {found}; docs/models.md says what such a file holds") from error


def _read_field(name: str, value: Any) -> tuple[str, Any]:
    """A field of a card and its value. Raises PromptError."""
    known = [each.name for each in fields(ModelCard)]
    if name not in known:
        raise PromptError(f"found {name!r}, the nearest that exists is {get_close_matches(name, known, 1, 0.0)[0]!r}")
    if name in ("prompt_format", "inputs_format"):
        return name, None if value is None and name == "inputs_format" else format_from_json(value)
    if not isinstance(value, _KINDS[name]) and not (name == "loss" and value is None):
        expected = "an object" if _KINDS[name] is dict else "a text"
        raise PromptError(f"found {value!r:.60} for {name}, expected {expected}")
    if name == "loss" and value is not None and value not in get_args(Loss):
        raise PromptError(f"found {value!r:.60} for loss, expected one of {', '.join(get_args(Loss))}")
    return name, value


def write_card(folder: Path, card: ModelCard) -> None:
    """Write the card beside the weights; a format or a prompt that it does not have is left out."""
    plain = {name: value for name, value in asdict(card).items() if value not in (None, "")}
    write_json(folder / CARD_FILE, plain)


def format_from_json(value: Any) -> PromptFormat:
    """The prompt format of a JSON object, as `asdict` makes it. What is left out has its default.

    Raises PromptError for what is missing, unknown, or not of its type.
    """
    if not isinstance(value, dict):
        raise PromptError(f"prompt_format: found {value!r:.60}, expected an object")
    known = {each.name: each for each in fields(PromptFormat)}
    for name, found in value.items():
        if name not in known:
            nearest = get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise PromptError(f"prompt_format: found {name!r}, the nearest that exists is {nearest!r}")
        expected = {"str": (str,), "str | None": (str, type(None)), "bool": (bool,)}[str(known[name].type)]
        if not isinstance(found, expected):
            raise PromptError(f"prompt_format: found {found!r:.60} as {name!r}, expected {known[name].type}")
    if missing := [name for name, each in known.items() if each.default is MISSING and name not in value]:
        raise PromptError(f"prompt_format: found no {', '.join(missing)}")
    return PromptFormat(**value)
