"""File formats: weights files, checkpoints and locks."""
