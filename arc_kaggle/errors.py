"""The exception tree. Every error a user can cause is an `ArcKaggleError` and reads as one clear message."""

from __future__ import annotations


class ArcKaggleError(Exception):
    """What was wrong, where, what was found, what was expected, and what to do."""


class GridError(ArcKaggleError):
    """A value that is not a grid: rectangular, 1..30 x 1..30, integers 0..9."""


class TaskError(ArcKaggleError):
    """A task, a task file or a selection of tasks that cannot be read."""


class DecodeError(ArcKaggleError):
    """A text that is not a grid. `reason` is a short name that reports count by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class PromptError(ArcKaggleError):
    """A prompt that cannot be built or does not become the tokens it should."""


class ConfigError(ArcKaggleError):
    """An option that does not exist or has a value that makes no sense."""


class ModelError(ArcKaggleError):
    """A model folder that cannot be loaded or does not fit its prompt."""


class TuneError(ArcKaggleError):
    """Test-time fine-tuning that went wrong; the base model is untouched."""


class LeakError(ArcKaggleError):
    """Training data that contains tasks of an evaluation set."""


class SubmissionError(ArcKaggleError):
    """A submission, or a file of predictions, that is not valid."""


class EngineError(ArcKaggleError):
    """A request that an engine cannot serve."""


class MountError(ArcKaggleError):
    """Something that a notebook needs is not attached to it, or more than one of it is."""


class BundleError(ArcKaggleError):
    """A wheel bundle that cannot be built, or does not hold what it should."""


class WorkerError(ArcKaggleError):
    """A child process that could not be started or did not answer."""
