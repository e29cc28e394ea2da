"""The formats of image files: one row each.

A new format takes a row here, a function that opens its files, and a test.
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
"""Bytes in which every format has its magic bytes."""

_BMP = rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # with the size of its header: texts begin with BM too
_AVIF = rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{0,96}avi[fs])"
_HEIF = rb".{4}ftyp(?:he[iv][cxms]|mif1|msf1)"
_JPEG_2000 = rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"


@dataclass(frozen=True)
class Format:
    """A format of image files.

    Attributes:
        name: As shown to users.
        extensions: Of its files in a folder, in lower case.
        magic: Regular expression that the first bytes of its files match, whatever their extension.
        open: Reads the header of a stream, which is at its beginning, and returns what can be decoded; None for the
            second argument means full size.
        package: What has to be installed for it.
        extra: The extra of this package that installs it.
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
    Format("PNM", (".ppm", ".pgm", ".pbm", ".pnm"), rb"P[1-6](?:\s|#[^\n]*\n)+\d+\s", open_pnm),
)
"""Every format that is read. A format without a row has no decoder, so that no file can start another program."""

EXTENSIONS = tuple(extension for row in FORMATS for extension in row.extensions)


def recognised(head: bytes) -> Format | None:
    """The format of a file by its first :data:`HEAD` bytes, or None."""
    return next((row for row in FORMATS if re.match(row.magic, head, re.DOTALL)), None)


def open_image(stream: BinaryIO, cover: Cover = None) -> OpenImage:
    """Open an image file by its first bytes; nothing is decoded.

    Args:
        stream: The file.
        cover: Height and width that the decoded image must have at least; a JPEG is then decoded at a smaller scale.

    Raises:
        DataError: If it has no known format, or the package that reads it is not installed.
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
        fix = f'Run `pip install "super-selfish[{found.extra}]"`.'
        raise DataError(f"{found.name} files need {found.package}.", fix=fix) from error


def _other_content(head: bytes) -> str:
    if not head:
        return "the file is empty."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, not an image."
    *names, last = (row.name for row in FORMATS)
    return f"it is not a {', '.join(names)} or {last} file."
