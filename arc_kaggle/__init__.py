"""arc_kaggle: test-time fine-tuning and batched augment-infer-reverse-vote inference for ARC puzzles.

The names a notebook needs; importing them does not import torch.
"""

from arc_kaggle.commands.score import ScoreConfig, score
from arc_kaggle.config.model import recipe_of
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.errors import ArcKaggleError
from arc_kaggle.run.report import SolveResult
from arc_kaggle.run.solve import solve
from arc_kaggle.tasks.dataset import load_tasks
from arc_kaggle.tasks.task import Task

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
