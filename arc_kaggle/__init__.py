"""arc_kaggle: test-time fine-tuning and batched augment-infer-reverse-vote inference for ARC puzzles.

The names a notebook needs; importing them does not import torch.
"""

from arc_kaggle.config import SolveConfig, recipe_of
from arc_kaggle.dataset import load_tasks
from arc_kaggle.dispatch import SolveResult, solve
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.score import ScoreConfig, score
from arc_kaggle.task import Task

__version__ = "0.1.0"
__all__ = [
    "ArcKaggleError",
    "ScoreConfig",
    "SolveConfig",
    "SolveResult",
    "Task",
    "load_tasks",
    "recipe_of",
    "score",
    "solve",
]
