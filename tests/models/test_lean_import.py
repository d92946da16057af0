"""What a process that loads a model imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys


def test_models_are_imported_without_scipy_and_transformers_still_knows_that_it_is_there() -> None:
    code = (
        "import sys; import arc_kaggle.models.grid_lm; from transformers.utils import *\n"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules, is_sklearn_available(), is_scipy_available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False", "True", "True"]), done.stderr
