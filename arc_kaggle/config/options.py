"""What all options share: the range of a number, which is checked here alone, and whether an option shapes results."""

from __future__ import annotations

import typing
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from arc_kaggle.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option takes, written into its type: `Annotated[int, Range(1, 9)]`. NaN is in no range."""

    least: float
    most: float
    is_open: bool = False
    """Whether `least` itself is left out."""

    def __contains__(self, value: float) -> bool:
        return (self.least < value if self.is_open else self.least <= value) and value <= self.most

    def expected(self, value: float) -> str:
        """Words for the side of the range that a number is past."""
        if (self.least, self.most) == (0, 1):
            return "a share over 0 and up to 1" if self.is_open else "a share, 0..1"
        if value > self.most:
            return f"at most {self.most:,.15g}"
        return f"more than {self.least:g}" if self.is_open else f"{self.least:g} or more"


MANY = 10**9
MOST_VIEWS = 100_000
Natural = Annotated[int, Range(0, MANY)]
"""0 or more."""
Count = Annotated[int, Range(1, MANY)]
"""1 or more."""
Views = Annotated[int, Range(0, MOST_VIEWS)]
"""A number of views of a task."""
Processes = Annotated[int, Range(0, 1024)]
"""A number of processes on one machine."""
Seed = Annotated[int, Range(0, 2**63 - 1)]
"""What a random generator begins with."""
NotNegative = Annotated[float, Range(0, MANY)]
"""0 or more, and finite."""
Share = Annotated[float, Range(0, 1)]
"""0..1."""
Positive = Annotated[float, Range(0, MANY, is_open=True)]
"""More than 0: seconds, GB, factors."""
Minutes = Annotated[float, Range(0, 10**7, is_open=True)]
"""More than 0, and at most some 19 years."""
Drop = Literal["last", "largest", "least_similar"]
"""Which train pair is left out first; of equals the last. `last`: the last. `largest`: the one with most tokens.
`least_similar`: the one whose input is least like the input that is asked for (see `similarity`)."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Marks an option that decides where a run works and for how long, and not what it gives."""


ASIDE = Aside()


def hints(cls: type) -> dict[str, Any]:
    """The types of a config's options by name, with what `Annotated` says of them."""
    return _hints(typing.cast(Hashable, cls))


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def notes(hint: Any) -> Iterator[Any]:
    """What `Annotated` says of a type, or of the members of a union."""
    yield from getattr(hint, "__metadata__", ())
    for part in typing.get_args(hint):
        yield from notes(part)


def check_ranges(config: Any, name: str = "") -> None:
    """Raise ConfigError for a number of a config dataclass that is out of the range in its type.

    `name` is that of the config among the options, such as `generate`.
    """
    for option, hint in hints(type(config)).items():
        value, where = getattr(config, option), f"{name}.{option}" if name else option
        for allowed in notes(hint):
            if isinstance(allowed, Range) and isinstance(value, (int, float)) and value not in allowed:
                raise ConfigError(f"option {where}: found {value!r:.30}, expected {allowed.expected(value)}")


@lru_cache
def names_aside(cls: type, prefix: str = "") -> frozenset[str]:
    """The dotted names of the options that are marked as `ASIDE`, those of nested configs included."""
    found = set()
    for name, hint in hints(cls).items():
        if any(isinstance(note, Aside) for note in notes(hint)):
            found.add(prefix + name)
        elif hasattr(hint, "__dataclass_fields__"):
            found |= names_aside(hint, f"{prefix}{name}.")
    return frozenset(found)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON objects as one, with dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    items = (flat(item, f"{name}.{key}" if name else key) for key, item in value.items())
    return {key: item for one in items for key, item in one.items()}
