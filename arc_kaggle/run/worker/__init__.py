"""What runs in a worker process, torch included: the stages of one task.

It imports `run.planning` and rooms before `run`.
"""
