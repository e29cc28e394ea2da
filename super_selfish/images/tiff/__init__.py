"""Reader of TIFF files, including multi-band and multi-page images."""

from super_selfish.images.tiff.reader import open_tiff

__all__ = ["open_tiff"]
