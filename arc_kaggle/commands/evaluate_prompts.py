"""Command `evaluate-prompts`: it judges models and adapters on prompts with known completions."""

from __future__ import annotations

from arc_kaggle.config.prompts import PromptEvaluation


def run(config: PromptEvaluation) -> int:
    """Ask, score, write predictions.jsonl and summary.json, and print the table. Raises ArcKaggleError subclasses."""
    from arc_kaggle.evaluation.prompts.judge import judge, summary_text  # it loads torch

    print(summary_text(judge(config)))
    return 0
