"""Readers of GIF, AVIF, HEIF, JPEG 2000 and PNM files, which Pillow or a Pillow plugin decodes.

AVIF and HEIF files are decoded to 8 bits regardless of their bit depth; JPEG 2000 and PNM files keep up to
16 bits: OpenCV decodes deep colours of JPEG 2000, and deep samples of PNM are decoded here.
"""

from __future__ import annotations

import importlib
import re
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Jpeg2KImagePlugin, PpmImagePlugin, features

from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, Header, OpenImage, open_pillow

_SIZES = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream: the markers before sizes and bit depths
_COMPONENTS, _DEPTHS = 40, 42  # offsets of the number of components and of their bit depths, in bytes from the marker
_SEARCHED = 1 << 16  # number of leading bytes that are searched for the start of the codestream

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])"
_FIRST = re.compile(rb"P([1-6])" + rb"%b+(\d+)%b+(\d+)(?:%b+(\d+))?" % ((_SPACE,) * 3))
_COMMENT = re.compile(rb"#[^\r\n]*")
_TEXT, _BITMAPS, _COLOUR = (b"1", b"2", b"3"), (b"1", b"4"), (b"3", b"6")
_WHITE = 65535


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
        raise DataError("16-bit JPEG 2000 files in grey with alpha are not supported.", fix="Convert the file to PNG.")
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


class _Layout(NamedTuple):
    """Header of a file: text or bits as samples, shape, largest sample, and position of the first sample in bytes."""

    text: bool
    bits: bool
    shape: tuple[int, int, int]
    white: int
    start: int


def open_pnm(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a PBM, PGM or PPM file; values of more than 8 bits are rescaled so that white is 65535.

    Raises:
        DataError: If the header is damaged.
    """
    layout = _layout(stream.read(_SEARCHED))
    left_out = _further_images(stream, layout)
    if layout.white <= 255:
        stream.seek(0)
        return open_pillow(PpmImagePlugin.PpmImageFile(stream))._replace(left_out=left_out)
    return OpenImage(Header(*layout.shape, "uint16"), 1, 0, lambda: _deep(stream, layout), left_out=left_out)


def _layout(head: bytes) -> _Layout:
    found = _FIRST.match(head)
    if found is None:
        raise DataError("the header of the PNM file is damaged.")
    kind, width, height = found[1], int(found[2]), int(found[3])
    is_bitmap = kind in _BITMAPS
    white = 1 if is_bitmap else int(found[4] or 0)
    if not (width and height and 0 < white <= _WHITE):
        raise DataError("the header of the PNM file is damaged.", received=f"{width}×{height} px, white {white}")
    start = (found.end(3) if is_bitmap else found.end(4)) + 1
    return _Layout(kind in _TEXT, is_bitmap, (height, width, 3 if kind in _COLOUR else 1), white, start)


def _further_images(stream: BinaryIO, layout: _Layout) -> int:
    """Return the number of images after the first, which binary files may contain."""
    height, width, channels = layout.shape
    row = -(-width // 8) if layout.bits else width * channels * (1 + (layout.white > 255))
    end = layout.start + height * row
    stream.seek(end)
    if layout.text or not re.match(rb"P[4-6]\s", stream.read(3)):
        return 0
    return max(1, (stream.seek(0, 2) - end) // end)


def _deep(stream: BinaryIO, layout: _Layout) -> Image:
    """Decode samples of more than 8 bits.

    Raises:
        DataError: If samples are missing, damaged or larger than white.
    """
    stream.seek(layout.start)
    count = int(np.prod(layout.shape))
    content = stream.read(-1 if layout.text else 2 * count)
    samples: npt.NDArray[np.int64]
    if layout.text:
        words = _COMMENT.sub(b" ", content).split()[:count]
        if not all(word.isdigit() for word in words):
            raise DataError("the PNM file is damaged.", expected="decimal numbers", received="other characters")
        samples = np.array([int(word) for word in words], np.int64)
    else:
        samples = np.frombuffer(content[: len(content) // 2 * 2], ">u2").astype(np.int64)
    if len(samples) < count:
        raise DataError("the file is truncated.", received=f"{len(samples)} of {count} samples")
    if samples.max() > layout.white:
        received = f"a value of {samples.max()} in a file with a largest value of {layout.white}"
        raise DataError("the PNM file is damaged.", received=received)
    image: Image = np.rint(samples * (_WHITE / layout.white)).astype(np.uint16).reshape(layout.shape)
    return image
