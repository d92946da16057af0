"""From prompts to completions, searches and likelihoods, behind one Protocol.

It imports only `tuning` and rooms before it.
"""
