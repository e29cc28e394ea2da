"""Batches: order, workers, collation."""
