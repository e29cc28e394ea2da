"""TIFF files: which pages make one image, and how their numbers are read."""

from super_selfish.images.tiff.reader import open_tiff

__all__ = ["open_tiff"]
