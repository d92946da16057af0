"""Training a model: data, steps, checkpoints. `train.py` is the command."""
