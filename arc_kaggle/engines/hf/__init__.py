"""The engine on transformers: one KV cache for many prompts, tree attention, drafts.

It imports `engines` and before.
"""
