"""Reading of image files and their headers.

The same rules apply to every format. The EXIF orientation is applied. Alpha is dropped unless an ``AlphaRule`` keeps or
blends it. 1-bit images become 0 and 255; palette, CMYK, YCbCr and HSV images become RGB; CIE Lab raises an error.
Images of more than 8 bits keep their bit depth. Only the first image of animations and multi-page files is read. Colour
profiles are ignored. Pixels that a file declares as no data keep their values and are marked in a mask.

JPEG files may be decoded at a half, a quarter or an eighth of their size where that is sufficient. This is faster: the
decoder then computes smaller blocks.

Formats are identified by the first bytes of a file. See :mod:`super_selfish.images.formats` for those supported.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from super_selfish.errors import DataError, UnreadableImage, validate_keywords
from super_selfish.images.arrays import blended, precision_notes, to_image
from super_selfish.images.decoder_messages import decoder_messages
from super_selfish.images.exif import MESSAGES
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
    """Format a path for display: line breaks, control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path)
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


@validate_keywords()
def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """Return the shape and dtype of the result of :func:`read_image`, from the header of the file.

    Files of signed or 32-bit integers are decoded, because their dtype depends on whether the values fit in uint16.

    Raises:
        DataError: If the file cannot be read, is not an image, or has more than ``max_pixels`` pixels.
    """
    return inspect_image(path, max_pixels)[0]


@validate_keywords()
def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file.

    Returns:
        H×W×C, C-contiguous, of dtype uint8, uint16 or float32. Values are not rescaled.

    Raises:
        DataError: If the file cannot be read or decoded, or has more than ``max_pixels`` pixels; the message names it.
    """
    return decode(path, max_pixels)[0]


def read_orientation(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 if the file has none.

    Raises:
        DataError: If the file cannot be read, is not an image, or has more than ``max_pixels`` pixels.
    """
    with _opened(path, max_pixels, "") as opened:
        return opened.orientation


class AlphaRule(NamedTuple):
    """How alpha channels are handled: kept, blended with a background, or dropped (the default).

    Attributes:
        channels: Alpha channels are kept if the image then has this number of channels.
        background: Otherwise, images with alpha are blended with this colour in [0, 1]: one value, or one per channel.
    """

    channels: int | None = None
    background: tuple[float, ...] | None = None

    def keeps(self, opened: OpenImage) -> bool:
        """Whether the alpha channels of an image are kept as channels."""
        return bool(opened.alpha) and opened.header.channels + opened.alpha == self.channels

    def blends(self, opened: OpenImage) -> bool:
        """Whether an image is blended with the background colour."""
        return self.background is not None and opened.alpha == 1 and not self.keeps(opened)


DROP_ALPHA = AlphaRule()


class Contents(NamedTuple):
    """Content of a file, as far as its header describes it.

    Attributes:
        header: Header of the decoded image.
        alpha: Whether alpha channels are dropped.
        left_out: Number of further images in the file, which are not read.
        notes: Problems of the file that do not prevent reading it.
    """

    header: Header
    alpha: bool
    left_out: int = 0
    notes: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """An image decoded from a file.

    Attributes:
        image: H×W×C.
        alpha: Whether alpha channels were dropped.
        missing: H×W×C or H×W×1, True where the file declares a pixel as no data. None: the file declares none.
        left_out: Number of further images in the file, which are not read.
        notes: Problems of the file that do not prevent reading it.
    """

    image: Image
    alpha: bool
    missing: Mask | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()


def inspect_image(source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[Header, bool]:
    """Return the header of a file or an open stream, and whether alpha is dropped; the stream is closed."""
    found = contents(source, max_pixels, name)
    return found.header, found.alpha


def decode(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "", cover: tuple[int, int] | None = None
) -> tuple[Image, bool]:
    """Return the image in a file or an open stream, and whether alpha was dropped; the stream is closed.

    Raises:
        DataError: See :func:`load`.
    """
    loaded = load(source, max_pixels, name, cover)
    return loaded.image, loaded.alpha


def contents(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "", alpha: AlphaRule = DROP_ALPHA
) -> Contents:
    """Describe the content of a file or an open stream; the stream is closed."""
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
    """Decode the image in a file or an open stream; the stream is closed.

    Args:
        source: Path or binary stream.
        max_pixels: Maximum number of pixels of an image.
        name: Name of a stream in error messages.
        cover: Minimum height and width of the decoded image. JPEG files may be decoded at reduced scale.
        alpha: How alpha channels are handled.

    Raises:
        DataError: If the image cannot be read or decoded, or has more than ``max_pixels`` pixels.
    """
    with _opened(source, max_pixels, name, cover) as opened:
        return _decoded(opened, alpha)


def examine(
    path: Path, max_pixels: int = MAX_PIXELS, cover: tuple[int, int] | None = None, alpha: AlphaRule = DROP_ALPHA
) -> tuple[Decoded, list[str]]:
    """Decode a file, and collect the messages of the decoder, which may report damage without failing.

    This function is not thread-safe: everything written to the standard error stream meanwhile is collected.

    Raises:
        DataError: See :func:`load`.
    """
    with decoder_messages() as messages, _opened(path, max_pixels, "", cover) as opened:
        decoded = _decoded(opened, alpha)
        if opened.verify is not None:
            opened.verify()
    return decoded, [message for message in messages if not re.match(MESSAGES, message)]  # which become notes


def _decoded(opened: OpenImage, alpha: AlphaRule) -> Decoded:
    with precision_notes() as notes:
        found = _pixels(opened, alpha)
    return found._replace(notes=(*opened.notes, *notes))


def _pixels(opened: OpenImage, alpha: AlphaRule) -> Decoded:
    rest = (opened.left_out,)
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
    """Open an image; any exception raised inside becomes a DataError that names the file."""
    shown = printable(source) if isinstance(source, (str, bytes, os.PathLike)) else name
    try:
        with _open(source) if isinstance(source, (str, bytes, os.PathLike)) else source as stream:
            opened = open_image(stream, cover)
            height, width = opened.header[:2]
            if max(height * width, opened.allocated) > max_pixels:
                size = f"{height}×{width} = {height * width:,} pixels"
                if opened.allocated > height * width:
                    size = f"{opened.allocated:,} pixels, allocated to decode {height}×{width},"
                raise DataError(
                    f"{size} are more than `max_pixels={max_pixels}` allows.",
                    fix="To read the image, pass a larger `max_pixels=`.",
                )
            yield opened
    except DataError as error:
        raise UnreadableImage(f"`{shown}` cannot be read: {error}") from error
    except Exception as error:  # decoders raise arbitrary exceptions for damaged files
        raise UnreadableImage(f"`{shown}` cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """Describe why a file could not be read: the message of the operating system or the decoder."""
    text = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (RuntimeError, ImportError, MemoryError)):  # not caused by the content of the file
        return text
    return f"the file is damaged or truncated ({text})"


def _open(path: Any) -> BinaryIO:
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114  (paths may be bytes)
        raise DataError("it is a link to a file that does not exist.")
    mode = os.stat(path).st_mode  # noqa: PTH116
    if not stat.S_ISREG(mode):  # opening a pipe would block indefinitely
        raise DataError("it is a folder." if stat.S_ISDIR(mode) else "it is not a regular file.")
    return open(path, "rb")  # noqa: PTH123
