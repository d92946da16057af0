"""Micro-step models: a causal LM over merged segments of tokens, and a small decoder that writes them.

It imports only `engines` and rooms before it.
"""
