"""The plan of a run's time over its tasks: pure values and decisions, no processes and no files."""
