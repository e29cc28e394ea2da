"""Figures: arrays in, a matplotlib figure out; no supervisor is needed."""
