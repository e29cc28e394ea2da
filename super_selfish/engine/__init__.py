"""The training loop: the base supervisor, its settings, and what happens around the five stages."""
