"""Answers to prompts: what was predicted, what is taken from its text, and how several become one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from arc_kaggle.config.prompts import Combine


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """One text that a model wrote; `log_prob` is the sum over its tokens, in nats."""

    model: str
    text: str
    n_tokens: int
    ended: bool
    """Whether it ended by itself; else it was cut off."""
    log_prob: float

    @property
    def mean_log_prob(self) -> float:
        return self.log_prob / max(1, self.n_tokens)


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """What one column answers to one item. `value` is what is judged; None where the answer is invalid."""

    item_id: str
    predictions: tuple[TextPrediction, ...]
    value: str | None

    @property
    def cut_off(self) -> bool:
        """Whether none of the predictions ended by itself."""
        return not any(prediction.ended for prediction in self.predictions)


def found_in(text: str, stop: str, extract: str) -> str | None:
    """The answer in a text: before `stop`, then the last match of `extract`, of its first group if it has groups."""
    text = text.partition(stop)[0] if stop else text
    if not extract:
        return text.strip() or None
    matches = [match[1 if match.re.groups else 0] for match in re.finditer(extract, text)]
    return (matches[-1] or "").strip() or None if matches else None


NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def number_behind(text: str, marker: str) -> str | None:
    """The number behind the last marker, or the last of all without a marker; as 1234.5, None where there is none."""
    if marker and marker not in text:
        return None
    found = (
        NUMBER.search(text.rpartition(marker)[2])
        if marker
        else max(NUMBER.finditer(text), key=re.Match.start, default=None)
    )
    if found is None:
        return None
    number = float(found[0].replace(",", ""))
    return str(int(number)) if number.is_integer() else str(number)


FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)(?:```|\Z)", re.DOTALL)


def code_in(text: str) -> str:
    """The first fenced block of a text, or all of it."""
    found = FENCE.search(text)
    return found[1] if found else text


def combined(how: Combine, values: Sequence[tuple[str, TextPrediction]]) -> str | None:
    """One value out of those of several predictions; None where there are none."""
    if not values:
        return None
    if how == "join":
        return " ".join(dict.fromkeys(value for value, _ in values))
    if how == "likeliest":
        return max(values, key=lambda each: each[1].mean_log_prob)[0]
    votes = Counter(value for value, _ in values)
    likeliest = {value: max(p.mean_log_prob for other, p in values if other == value) for value in votes}
    return max(votes, key=lambda value: (votes[value], likeliest[value]))
