"""An image file whose header is read and whose pixels are not decoded yet: what every format's reader returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from super_selfish.errors import DataError
from super_selfish.images.arrays import (
    COLOUR_MODES,
    GREY_MODES,
    apply_orientation,
    exif_orientation,
    from_pillow,
    has_alpha,
)
from super_selfish.images.functional import Image

_ONE_PICTURE = ("JPEG", "MPO", "TIFF")  # further pictures of MPO are small previews; TIFF pages are counted by kind

Cover = tuple[int, int] | None
"""Height and width that the decoded image must have at least; None: the full size."""


Mask = npt.NDArray[np.bool_]
"""H×W×C or H×W×1: True where a pixel holds no measurement."""


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
        alpha: Number of alpha channels, which ``decode`` drops.
        decode: Decodes the pixels and applies the orientation.
        decode_with_alpha: The same with the alpha channels behind the others; None if there are none.
        decode_with_mask: The same as ``decode``, with the pixels that the file declares to hold no data; None if it
            declares none.
        left_out: Number of further images in the file (pages, frames), which are not read.
        allocated: Pixels that decoding allocates where these are more than height × width.
        verify: Decodes by a decoder that reports damage, where ``decode`` uses one that does not.
        notes: What is wrong with the file though it can be read.
    """

    header: Header
    orientation: int
    alpha: int
    decode: Callable[[], Image]
    decode_with_alpha: Callable[[], Image] | None = None
    decode_with_mask: Callable[[], tuple[Image, Mask]] | None = None
    left_out: int = 0
    allocated: int = 0
    verify: Callable[[], object] | None = None
    notes: tuple[str, ...] = ()


def open_pillow(file: ImageFile.ImageFile) -> OpenImage:
    """An image that Pillow decodes.

    Raises:
        DataError: If it is in CIE Lab.
    """
    mode, orientation = file.mode, exif_orientation(file)
    if mode == "LAB":
        raise DataError("images in CIE Lab are not supported.", fix="Convert them to RGB first.")

    def decode(alpha: bool = False) -> Image:
        file.load()
        return apply_orientation(from_pillow(file, alpha), orientation)

    grey = 1, {"F": "float32", "I": ""}.get(mode, "uint8" if mode in GREY_MODES else "uint16")
    header = Header(file.height, file.width, *((3, "uint8") if mode in COLOUR_MODES else grey))
    left_out = int(getattr(file, "n_frames", 1)) - 1 if file.format not in _ONE_PICTURE else 0
    if not has_alpha(file):
        return OpenImage(header, orientation, 0, decode, left_out=left_out)
    return OpenImage(header, orientation, 1, decode, lambda: decode(alpha=True), left_out=left_out)
