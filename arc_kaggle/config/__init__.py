"""Every option of every command and stage: frozen dataclasses that need no torch.

It imports only `errors`.
"""
