"""Scores of answers: exact match, numbers, tested code, and similarity of sentence embeddings."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arc_kaggle.config.prompts import PromptEvaluation
from arc_kaggle.errors import ConfigError, ModelError
from arc_kaggle.evaluation.prompts.answers import code_in, found_in, number_behind
from arc_kaggle.system.sandbox import check_system, run_tests
from arc_kaggle.tasks.prompt_sets import PromptItem

Values = Sequence[str | None]
Points = list[float]
"""0..1 for every answer."""
Score = Callable[[Sequence[PromptItem], Values], Points]


def value_of(text: str, config: PromptEvaluation) -> str | None:
    """What is judged of a text; None where there is no answer in it."""
    found = found_in(text, config.stop, config.extract)
    if found is None or config.score in ("exact", "choice", "similarity"):
        return found
    if config.score == "number":
        return number_behind(found, config.marker)
    code = code_in(found)
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return code


def make_score(config: PromptEvaluation) -> Score:
    """What judges the values of items; an invalid one has 0 points. Raises ModelError for embeddings, ConfigError."""
    if config.score == "code":
        check_system()
        return lambda items, values: _code(items, values, config)
    if config.score == "similarity":
        assert config.embeddings is not None
        embed = load_embeddings(config.embeddings)
        return lambda items, values: _similarity(items, values, embed)
    if config.score == "number":
        return lambda items, values: [
            float(value is not None and value == number_behind(item.given + item.completion, config.marker))
            for item, value in zip(items, values, strict=True)
        ]
    return lambda items, values: [float(v == i.completion.strip()) for i, v in zip(items, values, strict=True)]


def check_items(items: Sequence[PromptItem], config: PromptEvaluation) -> None:
    """Raise ConfigError for an item that cannot be judged so."""
    needs: dict[str, Callable[[PromptItem], object]] = {
        "exact": lambda item: item.completion,
        "similarity": lambda item: item.completion,
        "choice": lambda item: item.choices,
        "code": lambda item: item.tests,
        "number": lambda item: number_behind(item.given + item.completion, config.marker),
    }
    lacks = [item.id for item in items if not needs[config.score](item)]
    if lacks:
        what = {"choice": "choices", "code": "tests", "number": f"number behind {config.marker!r}"}
        raise ConfigError(
            f"option score: found {config.score}, but item {lacks[0]} and {len(lacks) - 1} others have no "
            f"{what.get(config.score, 'completion')}"
        )


def _code(items: Sequence[PromptItem], values: Values, config: PromptEvaluation) -> Points:
    def passed(pair: tuple[PromptItem, str | None]) -> float:
        item, code = pair
        limits = config.tests_seconds, config.tests_memory_mb
        return float(code is not None and run_tests(code, item.tests, *limits) == "passed")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(passed, zip(items, values, strict=True)))


Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors (texts, width)."""


def load_embeddings(folder: Path) -> Embed:
    """A sentence-transformers folder, from disk alone. Raises ModelError."""
    if find_spec("sentence_transformers") is None:
        raise ModelError(
            "option embeddings: found no package sentence-transformers; pip install 'arc_kaggle[embeddings]'"
        )
    if not (folder / "modules.json").is_file():
        raise ModelError(f"embeddings {folder}: found no modules.json, expected a folder of sentence-transformers")
    from sentence_transformers import SentenceTransformer

    load: Any = SentenceTransformer
    model = load(str(folder), device="cpu", local_files_only=True)
    return lambda texts: np.asarray(
        model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
    )


def _similarity(items: Sequence[PromptItem], values: Values, embed: Embed) -> Points:
    """The cosine to the third power, which tells near from nearly near; 0 for an invalid answer."""
    known = [i for i, value in enumerate(values) if value is not None]
    points = [0.0] * len(items)
    if not known:
        return points
    found, wanted = embed([values[i] or "" for i in known]), embed([items[i].completion for i in known])
    for i, cosine in zip(known, (found * wanted).sum(axis=-1), strict=True):
        points[i] = float(np.clip(cosine, 0, 1) ** 3)
    return points
