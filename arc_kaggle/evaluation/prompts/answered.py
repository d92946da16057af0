"""What a model has answered is kept until all models have, so that a killed evaluation goes on behind the last one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arc_kaggle.config.json import config_to_json
from arc_kaggle.config.options import names_aside
from arc_kaggle.config.prompts import PromptEvaluation
from arc_kaggle.evaluation.model_folders import ModelFolder
from arc_kaggle.evaluation.prompts.answers import TextPrediction
from arc_kaggle.system.files import digest, write_atomically
from arc_kaggle.system.inputs import read_json_file
from arc_kaggle.system.paths import safe_name

KEPT = "answered"
"""Folder in OUT with one file a model; it is removed when predictions.jsonl and summary.json are written."""
ELSEWHERE = {"models", "base", "out", "data", "shots_from"}
"""Options whose files count by their content, or not at all."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The predictions of one model, in the order of the items."""

    predictions: tuple[tuple[TextPrediction, ...], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """The file of one model's predictions; one of other weights, items or options counts as none."""

    path: Path
    key: str

    @classmethod
    def of(cls, model: ModelFolder, config: PromptEvaluation) -> KeptAnswers:
        aside = names_aside(PromptEvaluation) | ELSEWHERE
        settings = {name: value for name, value in config_to_json(config).items() if name not in aside}
        files = [digest(path) for path in (config.data, config.shots_from) if path]
        text = json.dumps([model.digest, files, settings], sort_keys=True)
        key = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        return cls(config.out / KEPT / f"{safe_name(model.name)}.json", key)

    def read(self) -> Answered | None:
        if not self.path.is_file() or (kept := read_json_file(self.path))["key"] != self.key:
            return None
        rows: list[list[dict[str, Any]]] = kept["predictions"]
        return Answered(tuple(tuple(TextPrediction(**each) for each in row) for row in rows), kept["seconds"])

    def write(self, answered: Answered) -> None:
        """As a whole or not at all. Numbers that are infinite stay so: nobody else reads this file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps({"key": self.key, **asdict(answered)}))
