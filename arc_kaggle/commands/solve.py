"""Command `solve`: a run over tasks, its table on the terminal and its submission on disk."""

from __future__ import annotations

from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.solve import solve

NOTHING_ANSWERED = 3
"""The exit code of a run in which the model gave no grid for any task: what it submits are rules and guesses."""


def run(config: SolveConfig) -> int:
    """Solve, print the report, and say where the submission is."""
    result = solve(config)
    print(result.text)
    path = config.out / "submission.json"
    print(f"\n{path} holds two attempts for {len(result.reports)} tasks, {result.seconds:.0f} s")
    return 0 if result.n_answered or not result.reports else NOTHING_ANSWERED
