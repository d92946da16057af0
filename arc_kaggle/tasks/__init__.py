"""Puzzles as values: grids, pairs, tasks, data sets and augmentations.

It imports only `system` and `config`.
"""
