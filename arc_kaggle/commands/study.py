"""Command `study`: it answers a question about models by a grid of runs, on puzzles that no training takes."""

from __future__ import annotations

from functools import partial

from arc_kaggle.config.study import StudyConfig
from arc_kaggle.evaluation.study.catalogue import STUDIES


def run(config: StudyConfig) -> int:
    """List the studies, or do one and print its table."""
    if not config.name:
        print("\n".join(f"{name:<18}{study.question}" for name, study in STUDIES.items()))
        return 0
    from arc_kaggle.evaluation.study.catalogue import find_study
    from arc_kaggle.evaluation.study.study import run_study  # it loads torch
    from arc_kaggle.evaluation.study.table import bases_of, text

    if config.name == "tokens":
        from arc_kaggle.evaluation.study.token_pictures import draw_tokens

        print(draw_tokens(config))
        return 0
    rows = run_study(config, partial(print, flush=True))
    if rows:
        study = find_study(config.name, config.over)
        print(text(rows, study.measure, bases_of(rows, study.against_last)))
        print(f"{config.folder} holds table.csv, table.md and figure.svg")
    return 0
