"""An image file whose header is read and whose pixels are not decoded yet: what every format's reader returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from PIL import ImageFile

from super_selfish.errors import DataError
from super_selfish.images.arrays import (
    ALPHA_MODES,
    COLOUR_MODES,
    GREY_MODES,
    apply_orientation,
    exif_orientation,
    from_pillow,
)
from super_selfish.images.functional import Image

Cover = tuple[int, int] | None
"""Height and width that the decoded image must have at least; None: the full size."""


class Header(NamedTuple):
    """What an image is once read: orientation applied, alpha dropped; dtype is "uint8", "uint16" or "float32"."""

    height: int
    width: int
    channels: int
    dtype: str


class OpenImage(NamedTuple):
    """An image file that is open.

    Attributes:
        header: As stored, before the orientation is applied. An empty dtype means that the values decide.
        orientation: EXIF orientation, 1 to 8.
        alpha: Whether an alpha channel is dropped.
        decode: Decodes the pixels and applies the orientation.
    """

    header: Header
    orientation: int
    alpha: bool
    decode: Callable[[], Image]


def open_pillow(file: ImageFile.ImageFile) -> OpenImage:
    """An image that Pillow decodes.

    Raises:
        DataError: If it is in CIE Lab.
    """
    mode, orientation = file.mode, exif_orientation(file)
    if mode == "LAB":
        raise DataError("images in CIE Lab are not supported.", fix="Convert them to RGB first.")

    def decode() -> Image:
        file.load()
        return apply_orientation(from_pillow(file), orientation)

    grey = 1, {"F": "float32", "I": ""}.get(mode, "uint8" if mode in GREY_MODES else "uint16")
    header = Header(file.height, file.width, *((3, "uint8") if mode in COLOUR_MODES else grey))
    return OpenImage(header, orientation, mode in ALPHA_MODES or "transparency" in file.info, decode)
