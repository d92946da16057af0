"""Command `train`: it makes a model from training rules, from scratch or from a model folder."""

from __future__ import annotations

from arc_kaggle.config.train import TrainConfig


def run(config: TrainConfig) -> int:
    """Train, and say what came of it. Raises LeakError, ConfigError, TaskError."""
    from arc_kaggle.training.session import train  # it loads torch

    facts = train(config)
    print(f"{config.out}: {facts['tokens']} tokens, {facts['hours']} h, loss {facts['loss']:.3f}")
    return 0
