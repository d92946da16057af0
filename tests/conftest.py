"""Shared set-up: hypothesis draws the same examples on every run and never judges speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from strategies import WriteJson

settings.register_profile("arc_kaggle", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("arc_kaggle")


@pytest.fixture
def write_json(tmp_path: Path) -> WriteJson:
    """Writes a value as JSON to a name below a fresh folder, and returns the path."""

    def write(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write
