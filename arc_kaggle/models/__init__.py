"""Causal language models: loading, cutting, quantising and measuring them.

It imports only `text` and rooms before it.
"""
