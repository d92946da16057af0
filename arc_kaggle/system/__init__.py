"""What the machine gives: time, files, memory, GPUs and child processes.

It imports nothing of the package but `errors`.
"""
