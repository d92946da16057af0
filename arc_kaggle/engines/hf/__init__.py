"""The engine on transformers, or on a GridLM alone: one KV cache for many prompts, tree attention, drafts.

It imports `engines` and before.
"""
