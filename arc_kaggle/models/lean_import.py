"""Imports the models of transformers without scikit-learn and SciPy, a fifth of the time of all imports of a process.

Only assisted decoding with a confidence threshold and losses of object detection ask for them, and nothing here does
either. Import this module before the first name of transformers that leads to its models.
"""

from __future__ import annotations

from importlib import import_module

from transformers import utils

NEEDLESS = ("is_sklearn_available", "is_scipy_available")
MODULES = ("transformers.modeling_utils", "transformers.generation.candidate_generator")
"""What leads to them; they ask once, as they are imported."""


def _import() -> None:
    found = {name: getattr(utils, name) for name in NEEDLESS}
    for name in NEEDLESS:
        setattr(utils, name, lambda: False)
    try:
        for module in MODULES:
            import_module(module)
    finally:
        for name, is_available in found.items():
            setattr(utils, name, is_available)


_import()
