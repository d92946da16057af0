"""Imports the generation of transformers without scikit-learn, which takes a fifth of all imports of a process.

Only assisted decoding with a confidence threshold asks scikit-learn for a curve, and nothing here decodes so. Import
this module before the first name of transformers that leads to its models.
"""

from __future__ import annotations

from importlib import import_module

from transformers import utils


def _import_generation() -> None:
    is_available = utils.is_sklearn_available
    utils.is_sklearn_available = lambda: False
    try:
        import_module("transformers.generation.candidate_generator")  # it asks once, when it is imported
    finally:
        utils.is_sklearn_available = is_available


_import_generation()
