"""Readers of GIF, AVIF, HEIF and JPEG 2000 files, which Pillow or a Pillow plugin decodes.

AVIF and HEIF files are decoded to 8 bits regardless of their bit depth; JPEG 2000 files keep up to 16 bits.
"""

from __future__ import annotations

import importlib
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Jpeg2KImagePlugin, features

from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, OpenImage, open_pillow

_SIZES = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream: the markers before sizes and bit depths
_COMPONENTS, _DEPTHS = 40, 42  # offsets of the number of components and of their bit depths, in bytes from the marker
_SEARCHED = 1 << 16  # number of leading bytes that are searched for the start of the codestream


def open_gif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a GIF file; only the first frame of an animation is read."""
    return open_pillow(GifImagePlugin.GifImageFile(stream))


def open_avif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open an AVIF file.

    Raises:
        DataError: If Pillow has no AVIF support.
    """
    try:
        plugin = importlib.import_module("PIL.AvifImagePlugin")
        supported = features.check("avif")
    except ModuleNotFoundError:
        supported = False
    if not supported:
        raise DataError("Pillow has no AVIF support.", fix="Run `pip install -U pillow` (11.3 or newer).")
    return open_pillow(plugin.AvifImageFile(stream))


def open_heif(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a HEIF file (.heic), which pillow-heif decodes."""
    plugin = importlib.import_module("pillow_heif")  # an optional dependency
    return open_pillow(plugin.HeifImageFile(stream))


def open_jpeg2000(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a JPEG 2000 file; OpenCV decodes 16-bit colour, which Pillow would reduce to 8 bits.

    Raises:
        DataError: If Pillow has no JPEG 2000 support.
    """
    if not features.check("jpg_2000"):
        raise DataError("Pillow has no JPEG 2000 support.", fix="Run `pip install -U pillow`.")
    head = stream.read(_SEARCHED)
    stream.seek(0)
    opened = open_pillow(Jpeg2KImagePlugin.Jpeg2KImageFile(stream))
    place = head.find(_SIZES)
    samples = head[place + _COMPONENTS : place + _DEPTHS]
    depths = head[place + _DEPTHS : place + _DEPTHS + 3 * int.from_bytes(samples, "big") : 3]
    deep = place >= 0 and max((depth & 0x7F for depth in depths), default=0) >= 8  # stored as bits - 1
    if deep and opened.alpha and opened.header.channels == 1:
        raise DataError("JPEG 2000 files of grey with alpha, of 16 bits, are not supported.", fix="Convert it to PNG.")
    return _deep_colour(opened, stream) if deep and opened.header.channels == 3 else opened


def _deep_colour(opened: OpenImage, stream: BinaryIO) -> OpenImage:
    """Return the same file with a decoder that keeps 16 bits."""

    def decode(alpha: bool = False) -> Image:
        stream.seek(0)
        image = functional.decode(stream.read(), colour=True, alpha=alpha)
        if image is None or image.shape[:2] != opened.header[:2] or image.dtype != np.uint16:
            raise DataError("the JPEG 2000 file is damaged.")
        return image

    with_alpha = (lambda: decode(alpha=True)) if opened.alpha else None
    header = opened.header._replace(dtype="uint16")
    return opened._replace(header=header, decode=decode, decode_with_alpha=with_alpha)
