"""How worker processes are started: as a child, or on another machine by Ray.

It imports `run.worker` only by its name.
"""
