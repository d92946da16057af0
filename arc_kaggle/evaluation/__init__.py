"""Judging models: what they solved, exact statistics, long runs in parts.

It imports only `run` and rooms before it.
"""
