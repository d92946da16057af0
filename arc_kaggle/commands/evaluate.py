"""Command `evaluate`: it judges checkpoints and adapters by runs of `solve`, cut into parts that can be resumed."""

from __future__ import annotations

from functools import partial

from arc_kaggle.config.evaluate import EvaluateConfig
from arc_kaggle.evaluation.evaluate import compare, evaluate
from arc_kaggle.evaluation.report import evaluation_text


def run(config: EvaluateConfig) -> int:
    """Judge what is not judged yet, or compare earlier evaluations; print the tables."""
    if config.compare:
        print(compare(config.compare))
    else:
        print(evaluation_text(evaluate(config, say=partial(print, flush=True))))
    return 0
