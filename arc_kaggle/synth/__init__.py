"""Rules made up by chance, as training data, each pair verified.

It imports only `tasks` and rooms before it.
"""
