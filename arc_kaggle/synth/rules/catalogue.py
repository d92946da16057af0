"""All families of rules by name, and which may follow which."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from arc_kaggle.synth.rules import (
    colours,
    counting,
    cropping,
    filling,
    framing,
    lattices,
    legends,
    lines,
    moving,
    painting,
    panels,
    patterns,
    selecting,
    stamps,
    symmetry,
    tiling,
)
from arc_kaggle.synth.rules.base import Family, Kind

TOPICS = (
    *(symmetry, tiling, patterns, cropping, colours, legends, selecting, moving),
    *(lines, framing, stamps, filling, painting, counting, panels, lattices),
)


def _families(topic: ModuleType) -> Iterator[Family]:
    values = [value for value in vars(topic).values() if isinstance(value, Family)]
    yield from (value for value in (*values, *getattr(topic, "SELECTING", ())) if topic.__name__.endswith(value.topic))


FAMILIES: dict[str, Family] = {family.name: family for topic in TOPICS for family in _families(topic)}


def kind_after(kind: Kind, family: Family) -> Kind:
    """What a grid of some kind is after a rule of the family."""
    return kind if family.gives == "same" else family.gives


def may_follow(kind: Kind, family: Family) -> bool:
    """Whether a rule of the family makes sense on such a grid: on what it takes, or on what is more than that."""
    order: tuple[Kind, ...] = ("any", "sparse", "objects")
    return family.takes in order and kind in order and order.index(family.takes) <= order.index(kind)


def chains(length: int) -> Iterator[tuple[Family, ...]]:
    """All chains of so many families, each of another topic."""

    def grown(chain: tuple[Family, ...], kind: Kind) -> Iterator[tuple[Family, ...]]:
        if len(chain) == length:
            yield chain
            return
        for family in followers(chain, kind):
            yield from grown((*chain, family), kind_after(kind, family))

    for family in FAMILIES.values():
        yield from grown((family,), kind_after("any", family))


def followers(chain: tuple[Family, ...], kind: Kind) -> list[Family]:
    """Families that may come next, `kind` being what the chain gives."""
    topics = {family.topic for family in chain}
    return [family for family in FAMILIES.values() if family.topic not in topics and may_follow(kind, family)]
