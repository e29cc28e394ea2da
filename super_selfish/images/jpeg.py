"""Reader of JPEG files: Pillow reads the header; OpenCV decodes most files, in three quarters of Pillow's time."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy.typing as npt
from PIL import JpegImagePlugin

from super_selfish.images import functional
from super_selfish.images.arrays import apply_orientation, from_pillow
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, OpenImage, open_pillow

_END = b"\xff\xd9"


def open_jpeg(stream: BinaryIO, cover: Cover) -> OpenImage:
    """Open a JPEG file, which can be decoded at a half, a quarter or an eighth of its size."""
    file = JpegImagePlugin.jpeg_factory(stream)
    opened = open_pillow(file)
    height, width, channels, _ = opened.header
    factor = reduction(height, width, cover, opened.orientation)

    by_opencv = file.format == "JPEG" and file.mode in ("L", "RGB")

    def decode() -> Image:
        image = None
        if by_opencv:
            stream.seek(0)
            data = stream.read()
            if data.endswith(_END):  # OpenCV does not always report a truncated file
                image = functional.decode(data, channels == 3, factor)
        if image is None:
            file.draft(None, (width // factor, height // factor))
            file.load()
            image = from_pillow(file)
        return apply_orientation(trimmed(image, height, width, factor), opened.orientation)

    def verify() -> None:  # Pillow does not report damaged data
        stream.seek(0)
        data = stream.read()
        if not by_opencv or not data.endswith(_END):
            functional.decode(data, False, 8)

    return opened._replace(decode=decode, verify=verify)


def reduction(height: int, width: int, cover: Cover, orientation: int) -> int:
    """Return the largest factor (1, 2, 4 or 8) by which an image can be reduced when it is decoded.

    Args:
        height: Stored height in px.
        width: Stored width in px.
        cover: Minimum height and width after the orientation is applied. None: full size.
        orientation: EXIF orientation.
    """
    if cover is None:
        return 1
    least = cover if orientation < 5 else cover[::-1]
    enough = min(height // least[0], width // least[1])
    return next(factor for factor in (8, 4, 2, 1) if factor <= max(1, enough))


def trimmed(image: npt.NDArray[Any], height: int, width: int, reduction: int) -> npt.NDArray[Any]:
    """Remove a last row and column that cover fewer pixels than the others, because decoders round sizes up."""
    height, width = round(height / reduction), round(width / reduction)
    return image if image.shape[:2] == (height, width) else image[:height, :width]
