"""The options of a run, from the config.json that it leaves: solve, preflight, evaluate and the notebooks take them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from arc_kaggle.config.model import ModelOptions
from arc_kaggle.config.options import flat, names_aside
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ConfigError

NOT_TAKEN = ("tasks", "select", "plan", "adapters", *names_aside(SolveConfig))
"""What a run was about, and where it worked; the next one has its own."""
SOLVE_ALONE = {option.name for option in fields(SolveConfig)} - {option.name for option in fields(ModelOptions)}
"""Options that shape a run of solve, and that neither preflight nor evaluate has."""


def saved_options(path: Path) -> dict[str, Any]:
    """Options by dotted name, such as generate.n_views, that shape results. Raises ConfigError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {path}: {error}, expected the config.json that a run of solve has left") from error
    if not isinstance(value, dict) or "generate" not in value:
        raise ConfigError(f"config {path}: found no options of a run, expected the config.json that solve has left")
    found = flat(value)
    return {name: each for name, each in found.items() if each is not None and name not in NOT_TAKEN}
