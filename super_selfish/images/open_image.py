"""The result of every format's reader: an image file whose header has been read, but not its pixels."""

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
    from_pillow,
    has_alpha,
)
from super_selfish.images.exif import exif_notes, exif_orientation
from super_selfish.images.functional import Image

_ONE_IMAGE = ("JPEG", "MPO", "TIFF")  # further images of MPO files are previews; TIFF pages are counted by kind

Cover = tuple[int, int] | None
"""Minimum height and width of the decoded image; None: full size."""


Mask = npt.NDArray[np.bool_]
"""H×W×C or H×W×1: True where a pixel is missing."""


class Header(NamedTuple):
    """Shape and dtype of a decoded image: orientation applied, alpha dropped; "uint8", "uint16" or "float32"."""

    height: int
    width: int
    channels: int
    dtype: str


class OpenImage(NamedTuple):
    """An open image file.

    Attributes:
        header: Header before the orientation is applied. An empty dtype means that the dtype depends on the values.
        orientation: EXIF orientation, 1 to 8.
        alpha: Number of alpha channels, which ``decode`` drops.
        decode: Decodes the pixels and applies the orientation.
        decode_with_alpha: The same as ``decode``, with alpha as the last channels; None if there is no alpha.
        decode_with_mask: The same as ``decode``, with the mask of pixels that the file declares as no data; None if it
            declares none.
        left_out: Number of further images in the file (pages, frames), which are not read.
        allocated: Number of pixels that decoding allocates, if larger than height × width.
        verify: Decodes with a decoder that reports damage, if the one of ``decode`` does not.
        notes: Problems of the file that do not prevent reading it.
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
    """Wrap an image file opened by Pillow.

    Raises:
        DataError: If the image is in CIE Lab.
    """
    mode, orientation = file.mode, exif_orientation(file)
    if mode == "LAB":
        raise DataError("images in CIE Lab are not supported.", fix="Convert them to RGB first.")

    def decode(alpha: bool = False) -> Image:
        file.load()
        return apply_orientation(from_pillow(file, alpha), orientation)

    grey = 1, {"F": "float32", "I": ""}.get(mode, "uint8" if mode in GREY_MODES else "uint16")
    header = Header(file.height, file.width, *((3, "uint8") if mode in COLOUR_MODES else grey))
    left_out = int(getattr(file, "n_frames", 1)) - 1 if file.format not in _ONE_IMAGE else 0
    opened = OpenImage(header, orientation, 0, decode, left_out=left_out, notes=exif_notes(file))
    if not has_alpha(file):
        return opened
    return opened._replace(alpha=1, decode_with_alpha=lambda: decode(alpha=True))
