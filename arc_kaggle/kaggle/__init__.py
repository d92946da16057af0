"""What the notebooks in `kaggle_notebooks/` call, without torch.

It imports only `evaluation` and rooms before it.
"""

from arc_kaggle.kaggle.commands import run
from arc_kaggle.kaggle.mounts import find_mounts, input_root, is_rerun
from arc_kaggle.kaggle.notebook import check_submission, dry_run, submit
from arc_kaggle.kaggle.pictures import draw_predictions, report_frame

__all__ = [
    "check_submission",
    "draw_predictions",
    "dry_run",
    "find_mounts",
    "input_root",
    "is_rerun",
    "report_frame",
    "run",
    "submit",
]
