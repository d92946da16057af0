"""arc_kaggle: test-time fine-tuning and batched augment-infer-reverse-vote inference for ARC puzzles.

The names a notebook needs. Each is imported when it is first asked for, so that a worker process does not pay for the
command line; none of them imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
_MODULES = {
    "ArcKaggleError": "errors",
    "ScoreConfig": "commands.score",
    "SolveConfig": "config.solve",
    "SolveResult": "run.report",
    "Task": "tasks.task",
    "load_tasks": "tasks.dataset",
    "recipe_of": "config.model",
    "score": "commands.score",
    "solve": "run.solve",
}


def __getattr__(name: str) -> Any:
    """A public name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module 'arc_kaggle' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"arc_kaggle.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
