"""What a process that loads a model imports, and what it does not."""

from __future__ import annotations

import subprocess
import sys


def test_models_are_imported_without_scikit_learn_and_transformers_still_knows_whether_it_is_there() -> None:
    code = (
        "import sys; from importlib.util import find_spec; import arc_kaggle.models.grid_lm, transformers.utils\n"
        "assert find_spec('sklearn'), 'this test needs an environment that has scikit-learn'\n"
        "print('sklearn' in sys.modules, transformers.utils.is_sklearn_available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True"]), done.stderr
