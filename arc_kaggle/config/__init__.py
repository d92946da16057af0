"""Every option of every stage as frozen dataclasses, without torch.

It imports only `errors`.
"""
