"""Test-time fine-tuning of a model on one task.

It imports only `models` and rooms before it.
"""
