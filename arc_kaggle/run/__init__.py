"""One run of `solve`: the supervisor, its journal, its plan and its workers.

It imports only `answering` and rooms before it.
"""
