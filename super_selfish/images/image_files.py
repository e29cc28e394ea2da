"""Image files: what a file holds without decoding it, and decoding it without losing anything unsaid.

Stated rules, the same for every format: EXIF orientation is applied; alpha is dropped; 1-bit becomes 0 and 255;
palette, CMYK, YCbCr and HSV become RGB; CIE Lab is refused; deep images keep their depth; animations and files of
several pages give the first picture; colour profiles are ignored.

JPEG files may be decoded at a half, a quarter or an eighth of their size where that is enough, which takes a part of
the time: their blocks of 8×8 pixels are then computed smaller, not computed and thrown away.

Files are recognised by their first bytes, and only the formats of :mod:`super_selfish.images.formats` are read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from super_selfish.errors import DataError, UnreadableImage, validate_keywords
from super_selfish.images.arrays import to_image
from super_selfish.images.formats import open_image
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Header, OpenImage

__all__ = [
    "MAX_PIXELS",
    "Header",
    "decode",
    "inspect_image",
    "printable",
    "read_header",
    "read_image",
    "read_orientation",
    "to_image",
]

MAX_PIXELS = 89_478_485

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def printable(path: Path) -> str:
    """A path for people: line breaks, control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path)
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


@validate_keywords()
def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """What :func:`read_image` will return, from the first bytes of the file.

    Files of signed or 32-bit integers are the exception: whether they fit in uint16 is seen only by decoding them.

    Raises:
        DataError: If the file cannot be read, is no image, or has more than ``max_pixels``.
    """
    return inspect_image(path, max_pixels)[0]


@validate_keywords()
def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file.

    Returns:
        H×W×C, C-contiguous, uint8, uint16 or float32, in memory of its own. Values keep the scale of the file.

    Raises:
        DataError: If the file cannot be read or decoded or has more than ``max_pixels``; the message names it.
    """
    return decode(path, max_pixels)[0]


def read_orientation(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 where the file has none.

    Raises:
        DataError: If the file cannot be read, is no image, or has more than ``max_pixels``.
    """
    with _opened(path, max_pixels, "") as opened:
        return opened.orientation


def inspect_image(source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[Header, bool]:
    """The header of a file or an open stream, which is closed, and whether alpha is dropped from it."""
    with _opened(source, max_pixels, name) as opened:
        height, width, channels, dtype = opened.header
        if opened.orientation >= 5:
            height, width = width, height
        return Header(height, width, channels, dtype or opened.decode().dtype.name), opened.alpha


def decode(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "", cover: tuple[int, int] | None = None
) -> tuple[Image, bool]:
    """The image in a file or an open stream, which is closed, and whether alpha was dropped from it.

    Args:
        source: A path or a stream.
        max_pixels: The largest image that is decoded.
        name: What to call a stream.
        cover: Height and width; a JPEG may be decoded smaller as long as both of its sides are at least as long.

    Raises:
        DataError: If it cannot be read or decoded or has more than ``max_pixels``.
    """
    with _opened(source, max_pixels, name, cover) as opened:
        return opened.decode(), opened.alpha


@contextlib.contextmanager
def _opened(
    source: Path | BinaryIO, max_pixels: int, name: str, cover: tuple[int, int] | None = None
) -> Iterator[OpenImage]:
    """Open an image; whatever goes wrong inside becomes a DataError that names the file."""
    shown = printable(source) if isinstance(source, (str, bytes, os.PathLike)) else name
    try:
        with _open(source) if isinstance(source, (str, bytes, os.PathLike)) else source as stream:
            opened = open_image(stream, cover)
            height, width = opened.header[:2]
            if height * width > max_pixels:
                raise DataError(
                    f"{height}×{width} = {height * width:,} pixels are more than `max_pixels={max_pixels}` allows.",
                    fix="If the image is wanted, pass a larger `max_pixels=`.",
                )
            yield opened
    except OSError as error:
        raise UnreadableImage(
            f"`{shown}` cannot be read: {error.strerror or error or type(error).__name__}."
        ) from error
    except Exception as error:  # damaged bytes make decoders raise anything at all
        raise UnreadableImage(f"`{shown}` cannot be read: {error or type(error).__name__}") from error


def _open(path: Any) -> BinaryIO:
    mode = os.stat(path).st_mode  # noqa: PTH116  (paths may be bytes)
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise DataError("it is a folder." if stat.S_ISDIR(mode) else "it is not an ordinary file.")
    return open(path, "rb")  # noqa: PTH123
