"""Grids as text and as tokens: encoders, prompts, presets and tokenizers.

It imports only `tasks` and rooms before it.
"""
