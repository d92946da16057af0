"""What stands beside the weights in a model folder: the prompt format and the recipe they were made for, and facts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arc_kaggle.errors import ModelError
from arc_kaggle.prompt import PromptFormat

CARD_FILE = "arc_kaggle.json"


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """`recipe` names how the model is tuned at test time; `facts` say how it was made."""

    prompt_format: PromptFormat
    recipe: str
    facts: dict[str, Any]


def read_card(folder: Path) -> ModelCard | None:
    """The card of a model folder; None where it has none. Raises ModelError for one that cannot be read."""
    path = folder / CARD_FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return ModelCard(PromptFormat(**value["prompt_format"]), value["recipe"], value["facts"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: {error!r}, expected prompt_format (begin, input, output, end), recipe, facts"
        ) from error


def write_card(folder: Path, card: ModelCard) -> None:
    (folder / CARD_FILE).write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")
