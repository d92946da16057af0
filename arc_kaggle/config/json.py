"""Every config dataclass is written as JSON, and read back, by the two functions here."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from arc_kaggle.errors import ConfigError

T = TypeVar("T")


def config_to_json(config: Any) -> dict[str, Any]:
    """Plain JSON values of a config dataclass."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


def config_from_json(cls: type[T], value: Mapping[str, Any], where: str = "config") -> T:
    """Read a config dataclass back. An unknown option is a ConfigError that names the nearest known one."""
    types = typing.get_type_hints(cls)
    for name in value:
        if name not in types:
            raise ConfigError(f"{where}: unknown option {name!r}{nearest(name, types)}")
    return cls(**{name: _field_from_json(types[name], item, f"{where}.{name}") for name, item in value.items()})


def _field_from_json(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return config_from_json(typing.cast(Any, kind), value, where)
    if kind in (Path, Path | None):
        return None if value is None else Path(value)
    return tuple(value) if isinstance(value, list) else value


def nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" (did you mean {close[0]!r}?)" if close else ""
