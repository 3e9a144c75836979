"""Execution of independent tasks by worker processes, on this machine or a Ray cluster. Knows nothing of speech."""
