"""The training engine: base supervisor, settings, training loop, checkpoints and saving."""
