"""Data loading: shuffling, workers and collation."""
