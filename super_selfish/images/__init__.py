"""Decoding image files to H×W×C arrays, and operations on these arrays."""
