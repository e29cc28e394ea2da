"""A training in one HTML file."""
