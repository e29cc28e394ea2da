"""Data sets of the pretext tasks, one module per task."""
