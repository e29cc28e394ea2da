"""Supported image file formats.

To add a format, add an entry to :data:`FORMATS`, a function that opens its files, and a test.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import BmpImagePlugin, WebPImagePlugin

from super_selfish.errors import DataError
from super_selfish.images.dicom import open_dicom
from super_selfish.images.jpeg import open_jpeg
from super_selfish.images.more_formats import open_avif, open_gif, open_heif, open_jpeg2000, open_pnm
from super_selfish.images.open_image import Cover, OpenImage, open_pillow
from super_selfish.images.png import open_png
from super_selfish.images.tiff import open_tiff

HEAD = 132
"""Number of leading bytes of a file that contain the magic bytes of every format."""

_BMP = rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # with the header size: text files can begin with BM too
_AVIF = rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{0,96}avi[fs])"
_HEIF = rb".{4}ftyp(?:he[iv][cxms]|mif1|msf1)"
_PNM = rb"P[1-6](?:\s|#[^\n]*\n)+(?:\d+\s|#[^\n]*\Z)"  # or a comment longer than these bytes
_JPEG_2000 = rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: Name shown to users.
        extensions: File extensions in lower case.
        magic: Regular expression that matches the first bytes of its files, regardless of the extension.
        open: Reads the header of a stream from its beginning, and returns the opened image. The second argument is the
            minimum size; None means full size.
        package: Package required to read the format.
        extra: Extra of this library that installs the package.
    """

    name: str
    extensions: tuple[str, ...]
    magic: bytes
    open: Callable[[BinaryIO, Cover], OpenImage]
    package: str = ""
    extra: str = ""


FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"), rb"\xff\xd8\xff", open_jpeg),
    Format("PNG", (".png",), rb"\x89PNG\r\n\x1a\n", open_png),
    Format("WebP", (".webp",), rb"RIFF.{4}WEBP", lambda stream, _: open_pillow(WebPImagePlugin.WebPImageFile(stream))),
    Format("TIFF", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]", open_tiff),
    Format("BMP", (".bmp",), _BMP, lambda stream, _: open_pillow(BmpImagePlugin.BmpImageFile(stream))),
    Format("DICOM", (".dcm",), rb".{128}DICM", open_dicom, package="pydicom", extra="dicom"),
    Format("GIF", (".gif",), rb"GIF8[79]a", open_gif),
    Format("AVIF", (".avif",), _AVIF, open_avif),
    Format("HEIF", (".heic", ".heif", ".hif"), _HEIF, open_heif, package="pillow_heif", extra="heif"),
    Format("JPEG 2000", (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"), _JPEG_2000, open_jpeg2000),
    Format("PNM", (".ppm", ".pgm", ".pbm", ".pnm"), _PNM, open_pnm),
)
"""All supported formats. Other formats have no decoder, so that no file can start another program."""

EXTENSIONS = tuple(extension for row in FORMATS for extension in row.extensions)


def recognised(head: bytes) -> Format | None:
    """Identify the format of a file by its first :data:`HEAD` bytes; None if it is unknown."""
    return next((row for row in FORMATS if re.match(row.magic, head, re.DOTALL)), None)


def open_image(stream: BinaryIO, cover: Cover = None) -> OpenImage:
    """Open an image file without decoding it; the format is identified by the first bytes.

    Args:
        stream: Binary file.
        cover: Minimum height and width of the decoded image. JPEG files may be decoded at reduced scale.

    Raises:
        DataError: If the format is unknown, or the package that reads it is not installed.
    """
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    found = recognised(head)
    if found is None:
        raise DataError(_other_content(head))
    try:
        return found.open(stream, cover)
    except ModuleNotFoundError as error:
        if not found.package or error.name != found.package:
            raise
        fix = f'Run `pip install "./super-selfish[{found.extra}]"`.'
        raise DataError(f"{found.name} files require {found.package}.", fix=fix) from error


def _other_content(head: bytes) -> str:
    if not head:
        return "the file is empty."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not an image."
    *names, last = (row.name for row in FORMATS)
    return f"it is not a {', '.join(names)} or {last} file."
