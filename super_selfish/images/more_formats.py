"""GIF, AVIF, HEIF, JPEG 2000 and the PNM family: formats that Pillow, or a package for Pillow, decodes.

AVIF and HEIF give 8 bits, whatever the file has; JPEG 2000 and PNM keep 16.
"""

from __future__ import annotations

import importlib
import re
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Jpeg2KImagePlugin, PpmImagePlugin, features

from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, OpenImage, open_pillow

_SIZES = b"\xff\x4f\xff\x51"  # of a JPEG 2000 codestream: the marker before sizes and depths
_COMPONENTS, _DEPTHS = 40, 42  # where their number and their depths are, from that marker on
_SEARCHED = 1 << 16  # bytes in which the codestream begins
_PNM_HEADER = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)")
_WHITE = 65535


def open_gif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a GIF; of an animation, the first picture."""
    return open_pillow(GifImagePlugin.GifImageFile(stream))


def open_avif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open an AVIF file.

    Raises:
        DataError: If Pillow cannot read AVIF.
    """
    try:
        plugin = importlib.import_module("PIL.AvifImagePlugin")
        supported = features.check("avif")
    except ModuleNotFoundError:
        supported = False
    if not supported:
        raise DataError("this Pillow does not read AVIF.", fix="Run `pip install -U pillow` (11.3 or newer).")
    return open_pillow(plugin.AvifImageFile(stream))


def open_heif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a HEIF file (.heic), which the package pillow-heif decodes."""
    import pillow_heif  # an optional dependency

    return open_pillow(pillow_heif.HeifImageFile(stream))


def open_jpeg2000(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a JPEG 2000 file; Pillow would reduce deep colour to 8 bits, so OpenCV decodes that.

    Raises:
        DataError: If Pillow cannot read JPEG 2000.
    """
    if not features.check("jpg_2000"):
        raise DataError("this Pillow does not read JPEG 2000.", fix="Run `pip install -U pillow`.")
    head = stream.read(_SEARCHED)
    stream.seek(0)
    opened = open_pillow(Jpeg2KImagePlugin.Jpeg2KImageFile(stream))
    place = head.find(_SIZES)
    samples = head[place + _COMPONENTS : place + _DEPTHS]
    depths = head[place + _DEPTHS : place + _DEPTHS + 3 * int.from_bytes(samples, "big") : 3]
    deep = place >= 0 and max((depth & 0x7F for depth in depths), default=0) >= 8  # stored as bits - 1
    return _deep_colour(opened, stream, "JPEG 2000 file") if deep and opened.header.channels == 3 else opened


def open_pnm(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a PBM, PGM or PPM file; where its numbers have more than 8 bits, white becomes 65535."""
    found = _PNM_HEADER.match(stream.read(_SEARCHED))
    stream.seek(0)
    opened = open_pillow(PpmImagePlugin.PpmImageFile(stream))
    white = 1 if found is None or found[1] in b"14" else int(found[2])
    if white <= 255:
        return opened
    if opened.header.channels == 3:
        return _deep_colour(opened, stream, "PPM", white)
    return opened._replace(header=opened.header._replace(dtype="uint16"))


def _deep_colour(opened: OpenImage, stream: BinaryIO, kind: str, white: int = _WHITE) -> OpenImage:
    """The same file, decoded with its 16 bits."""

    def decode() -> Image:
        stream.seek(0)
        image = functional.decode(stream.read(), colour=True)
        if image is None or image.shape[:2] != opened.header[:2] or image.dtype != np.uint16:
            raise DataError(f"the {kind} is damaged.")
        return image if white == _WHITE else np.rint(image * (_WHITE / white)).astype(np.uint16)

    return opened._replace(header=opened.header._replace(dtype="uint16"), decode=decode)
