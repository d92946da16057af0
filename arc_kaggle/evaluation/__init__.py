"""Judging checkpoints: what they solved, exact statistics of it, long runs in parts. `evaluate.py` is the command."""
