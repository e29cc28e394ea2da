"""Optimizers, learning rate schedules and training recipes."""
