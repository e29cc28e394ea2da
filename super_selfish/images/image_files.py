"""Image files: what a file holds without decoding it, and decoding it without losing anything unsaid.

Stated rules, the same for every format: EXIF orientation is applied; alpha is dropped unless an ``AlphaRule`` keeps or
blends it; 1-bit becomes 0 and 255; palette, CMYK, YCbCr and HSV become RGB; CIE Lab is refused; deep images keep their
depth; animations and files of several pages give the first picture; colour profiles are ignored. Pixels that a file
declares to hold no data keep their values, and a mask says which they are.

JPEG files may be decoded at a half, a quarter or an eighth of their size where that is enough, which takes a part of
the time: their blocks of 8×8 pixels are then computed smaller, not computed and thrown away.

Files are recognised by their first bytes, and only the formats of :mod:`super_selfish.images.formats` are read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from super_selfish.errors import DataError, UnreadableImage, validate_keywords
from super_selfish.images.arrays import blended, to_image
from super_selfish.images.decoder_messages import decoder_messages
from super_selfish.images.formats import open_image
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Header, Mask, OpenImage

__all__ = [
    "DROP_ALPHA",
    "MAX_PIXELS",
    "AlphaRule",
    "Contents",
    "Decoded",
    "Header",
    "contents",
    "decode",
    "examine",
    "inspect_image",
    "load",
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


class AlphaRule(NamedTuple):
    """What becomes of alpha channels.

    Attributes:
        channels: They are kept where the image then has this number of channels.
        background: They blend the image with this colour, on the scale [0, 1]: one number, or one for each channel.
            Without either they are dropped.
    """

    channels: int | None = None
    background: tuple[float, ...] | None = None

    def keeps(self, opened: OpenImage) -> bool:
        """Whether the alpha channels of an image are kept as channels."""
        return bool(opened.alpha) and opened.header.channels + opened.alpha == self.channels

    def blends(self, opened: OpenImage) -> bool:
        """Whether an image is blended with the background."""
        return self.background is not None and opened.alpha == 1 and not self.keeps(opened)


DROP_ALPHA = AlphaRule()


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        header: Of the image, as it is decoded.
        alpha: Whether alpha channels are dropped.
        left_out: Number of further images in the file, which are not read.
        notes: What is wrong with the file though it can be read.
    """

    header: Header
    alpha: bool
    left_out: int = 0
    notes: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """An image out of a file.

    Attributes:
        image: H×W×C.
        alpha: Whether alpha channels were dropped.
        missing: H×W×C or H×W×1, True where the file declares that a pixel holds no data; None: nothing is declared.
        left_out: Number of further images in the file, which are not read.
        notes: What is wrong with the file though it can be read.
    """

    image: Image
    alpha: bool
    missing: Mask | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()


def inspect_image(source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[Header, bool]:
    """The header of a file or an open stream, which is closed, and whether alpha is dropped from it."""
    found = contents(source, max_pixels, name)
    return found.header, found.alpha


def decode(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "", cover: tuple[int, int] | None = None
) -> tuple[Image, bool]:
    """The image in a file or an open stream, which is closed, and whether alpha was dropped from it.

    Raises:
        DataError: As :func:`load`.
    """
    loaded = load(source, max_pixels, name, cover)
    return loaded.image, loaded.alpha


def contents(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "", alpha: AlphaRule = DROP_ALPHA
) -> Contents:
    """What a file or an open stream holds; the stream is closed."""
    with _opened(source, max_pixels, name) as opened:
        height, width, channels, dtype = opened.header
        if opened.orientation >= 5:
            height, width = width, height
        kept = alpha.keeps(opened)
        header = Header(height, width, channels + opened.alpha * kept, dtype or opened.decode().dtype.name)
        dropped = bool(opened.alpha) and not kept and not alpha.blends(opened)
        return Contents(header, dropped, opened.left_out, opened.notes)


def load(
    source: Path | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    cover: tuple[int, int] | None = None,
    alpha: AlphaRule = DROP_ALPHA,
) -> Decoded:
    """The image in a file or an open stream, which is closed.

    Args:
        source: A path or a stream.
        max_pixels: The largest image that is decoded.
        name: What to call a stream.
        cover: Height and width; a JPEG may be decoded smaller as long as both of its sides are at least as long.
        alpha: What becomes of alpha channels.

    Raises:
        DataError: If it cannot be read or decoded or has more than ``max_pixels``.
    """
    with _opened(source, max_pixels, name, cover) as opened:
        return _decoded(opened, alpha)


def examine(
    path: Path, max_pixels: int = MAX_PIXELS, cover: tuple[int, int] | None = None, alpha: AlphaRule = DROP_ALPHA
) -> tuple[Decoded, list[str]]:
    """Decode a file, and collect what decoders report about it: damage that they pass over.

    Not for several threads at once: what any of them writes to the standard error stream meanwhile is taken for such.

    Raises:
        DataError: As :func:`load`.
    """
    with decoder_messages() as messages, _opened(path, max_pixels, "", cover) as opened:
        decoded = _decoded(opened, alpha)
        if opened.verify is not None:
            opened.verify()
    return decoded, [*decoded.notes, *messages]


def _decoded(opened: OpenImage, alpha: AlphaRule) -> Decoded:
    rest = (opened.left_out, opened.notes)
    if opened.decode_with_alpha is not None and alpha.keeps(opened):
        return Decoded(opened.decode_with_alpha(), False, None, *rest)
    if opened.decode_with_alpha is not None and alpha.background is not None and alpha.blends(opened):
        return Decoded(blended(opened.decode_with_alpha(), alpha.background), False, None, *rest)
    if opened.decode_with_mask is not None:
        image, missing = opened.decode_with_mask()
        return Decoded(image, bool(opened.alpha), missing, *rest)
    return Decoded(opened.decode(), bool(opened.alpha), None, *rest)


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
            if max(height * width, opened.allocated) > max_pixels:
                size = f"{height}×{width} = {height * width:,} pixels"
                if opened.allocated > height * width:
                    size = f"{opened.allocated:,} pixels that decoding {height}×{width} of them allocates"
                raise DataError(
                    f"{size} are more than `max_pixels={max_pixels}` allows.",
                    fix="If the image is wanted, pass a larger `max_pixels=`.",
                )
            yield opened
    except DataError as error:
        raise UnreadableImage(f"`{shown}` cannot be read: {error}") from error
    except Exception as error:  # damaged bytes make decoders raise anything at all
        raise UnreadableImage(f"`{shown}` cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Why a file could not be read: what the operating system says, or that the decoder met damaged content."""
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (RuntimeError, ImportError, MemoryError)):  # of a decoder that lacks something
        return text
    return f"the file is damaged or cut short ({text})"


def _open(path: Any) -> BinaryIO:
    mode = os.stat(path).st_mode  # noqa: PTH116  (paths may be bytes)
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise DataError("it is a folder." if stat.S_ISDIR(mode) else "it is not an ordinary file.")
    return open(path, "rb")  # noqa: PTH123
