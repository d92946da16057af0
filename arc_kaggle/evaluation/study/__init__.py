"""Studies: questions about models, each a small declared grid of runs of `solve`, and of `train` where it needs models.

It imports only the rooms before `evaluation`, and modules beside it there.
"""
