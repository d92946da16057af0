"""What stands beside the weights in a model folder: the prompt format and the recipe they were made for, and facts."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from arc_kaggle.config.model import CARD_FILE
from arc_kaggle.config.tune import Loss
from arc_kaggle.errors import ModelError, PromptError
from arc_kaggle.system.files import write_json
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.text.notation import Notation
from arc_kaggle.text.presets import Preset
from arc_kaggle.text.prompt_format import PromptFormat


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """`recipe` names how the model is tuned at test time; `facts` say how it was made."""

    prompt_format: PromptFormat
    recipe: str
    facts: dict[str, Any]
    encoder: str = "minimal"
    loss: Loss = "outputs_but_first"
    inputs_format: PromptFormat | None = None

    @classmethod
    def of(cls, notation: Notation, recipe: str, facts: dict[str, Any]) -> ModelCard:
        """The card of a model that reads and writes this notation."""
        return cls(notation.format, recipe, facts, notation.encoder.spec, notation.loss, notation.inputs)

    @property
    def preset(self) -> Preset:
        """How tasks are put to the model."""
        return Preset(self.prompt_format, self.encoder, self.loss, self.inputs_format)


def read_card(folder: Path) -> ModelCard | None:
    """The card of a model folder; None where it has none. Raises ModelError for one that cannot be read."""
    path = folder / CARD_FILE
    if not path.exists():
        return None
    try:
        value = read_json_file(path)
        formats = {"prompt_format": format_from_json(value["prompt_format"])}
        if value.get("inputs_format") is not None:
            formats["inputs_format"] = format_from_json(value["inputs_format"])
        card = ModelCard(**{**value, **formats})
        _check_types(card)
        return card
    except (OSError, ValueError, KeyError, TypeError, PromptError) as error:
        found = error if isinstance(error, (PromptError, TypeError)) else repr(error)
        raise ModelError(
            f"{path}: {found}, expected prompt_format (begin, input, output, end), recipe, facts, and perhaps "
            "encoder, loss, inputs_format"
        ) from error


def _check_types(card: ModelCard) -> None:
    """Raise TypeError that names the entry whose value is of another type than the card has."""
    for name, kind in (("recipe", str), ("facts", dict), ("encoder", str), ("loss", str)):
        if not isinstance(found := getattr(card, name), kind):
            raise TypeError(f"found {found!r:.60} for {name}, expected {'an object' if kind is dict else 'a text'}")


def write_card(folder: Path, card: ModelCard) -> None:
    write_json(folder / CARD_FILE, asdict(card))


def format_from_json(value: Any) -> PromptFormat:
    """The prompt format of a JSON object, as `asdict` makes it. What is left out has its default.

    Raises PromptError for what is missing, unknown, or not of its type.
    """
    if not isinstance(value, dict):
        raise PromptError(f"prompt_format: found {value!r:.60}, expected an object")
    known = {field.name: field for field in fields(PromptFormat)}
    for name, found in value.items():
        if name not in known:
            nearest = get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise PromptError(f"prompt_format: found {name!r}, the nearest that exists is {nearest!r}")
        expected = {"str": (str,), "str | None": (str, type(None)), "bool": (bool,)}[str(known[name].type)]
        if not isinstance(found, expected):
            raise PromptError(f"prompt_format: found {found!r:.60} as {name!r}, expected {known[name].type}")
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in value]:
        raise PromptError(f"prompt_format: found no {', '.join(missing)}")
    return PromptFormat(**value)
