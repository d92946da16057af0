"""Which stage of which task is next: plans by the clock, and recorded ones.

It imports rooms before `run`, no worker.
"""
