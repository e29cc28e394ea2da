"""Optimizers, schedules, training recipes and averages of weights."""
