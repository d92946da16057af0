"""Workers as the supervisor sees them: child processes, actors on other machines, or, for tests, this process."""
