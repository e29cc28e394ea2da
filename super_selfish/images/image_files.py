"""Image files: what a file holds without decoding it, and decoding it without losing anything unsaid.

Stated rules, the same for every format: EXIF orientation is applied; alpha is dropped; 1-bit becomes 0 and 255;
palette, CMYK, YCbCr and HSV become RGB; CIE Lab is refused; deep images keep their depth; animations and files of
several pages give the first picture; colour profiles are ignored.

JPEG files may be decoded at a half, a quarter or an eighth of their size where that is enough, which takes a part of
the time: their blocks of 8×8 pixels are then computed smaller, not computed and thrown away.

Files are told apart by their first bytes and only JPEG, PNG, WebP, TIFF, BMP and DICOM have a decoder here, so that no
file can start an outside program.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from super_selfish.errors import DataError, UnreadableImage
from super_selfish.images import dicom, functional, jpeg, tiff
from super_selfish.images.arrays import (
    ALPHA_MODES,
    COLOUR_MODES,
    GREY_MODES,
    exif_orientation,
    from_pillow,
    to_image,
    upright,
)
from super_selfish.images.functional import Image

__all__ = ["MAX_PIXELS", "Header", "decode", "inspect", "printable", "read_header", "read_image", "to_image"]

MAX_PIXELS = 89_478_485
_FORMATS = "JPEG, PNG, WebP, TIFF, BMP or DICOM"
_PNG = b"\x89PNG\r\n\x1a\n"

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Header(NamedTuple):
    """What an image is once read: orientation applied, alpha dropped; dtype is "uint8", "uint16" or "float32"."""

    height: int
    width: int
    channels: int
    dtype: str


class _Plan(NamedTuple):
    header: Header  # before the orientation is applied; an empty dtype where the values decide
    orientation: int
    alpha: bool
    decode: Callable[[], Image]  # upright


def printable(path: Path) -> str:
    """A path for people: line breaks, control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path)
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """What :func:`read_image` will return, from the first bytes of the file.

    Files of signed or 32-bit integers are the exception: whether they fit in uint16 is seen only by decoding them.

    Raises:
        DataError: If the file cannot be read, is no image, or has more than ``max_pixels``.
    """
    return inspect(path, max_pixels)[0]


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image file.

    Returns:
        H×W×C, C-contiguous, uint8, uint16 or float32, in memory of its own. Values keep the scale of the file.

    Raises:
        DataError: If the file cannot be read or decoded or has more than ``max_pixels``; the message names it.
    """
    return decode(path, max_pixels)[0]


def inspect(source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str = "") -> tuple[Header, bool]:
    """The header of a file or an open stream, which is closed, and whether alpha is dropped from it."""
    with _planned(source, max_pixels, name) as plan:
        height, width, channels, dtype = plan.header
        if plan.orientation >= 5:
            height, width = width, height
        return Header(height, width, channels, dtype or plan.decode().dtype.name), plan.alpha


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
    with _planned(source, max_pixels, name, cover) as plan:
        return plan.decode(), plan.alpha


@contextlib.contextmanager
def _planned(
    source: Path | BinaryIO, max_pixels: int, name: str, cover: tuple[int, int] | None = None
) -> Iterator[_Plan]:
    """Open and plan; whatever goes wrong inside becomes a DataError that names the file."""
    shown = printable(source) if isinstance(source, (str, bytes, os.PathLike)) else name
    try:
        with _open(source) if isinstance(source, (str, bytes, os.PathLike)) else source as stream:
            plan = _plan(stream, cover)
            height, width = plan.header[:2]
            if height * width > max_pixels:
                raise DataError(
                    f"{height}×{width} = {height * width:,} pixels are more than `max_pixels={max_pixels}` allows.",
                    fix="If the image is wanted, pass a larger `max_pixels=`.",
                )
            yield plan
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


def _plan(stream: BinaryIO, cover: tuple[int, int] | None) -> _Plan:
    stream.seek(0)
    head = stream.read(32)
    stream.seek(0)
    if head[:3] == b"\xff\xd8\xff":
        return _plan_jpeg(stream, cover)
    if head[:8] == _PNG:
        return _plan_png(stream, head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _plan_pillow(WebPImagePlugin.WebPImageFile(stream))
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _plan_tiff(stream)
    if head[:2] == b"BM":
        return _plan_pillow(BmpImagePlugin.BmpImageFile(stream))
    if not head:
        raise DataError("the file is empty.")
    if dicom.is_dicom(stream):
        found = dicom.plan(stream)
        return _Plan(Header(*found[:4]), 1, False, found.decode)
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))
    raise DataError("it is a web page, not an image." if page else f"it is not a {_FORMATS} file.")


def _pillow_layout(mode: str) -> tuple[int, str]:
    if mode in GREY_MODES:
        return 1, "uint8"
    if mode in COLOUR_MODES:
        return 3, "uint8"
    return 1, {"F": "float32", "I": ""}.get(mode, "uint16")


def _plan_pillow(picture: ImageFile.ImageFile, orientation: int | None = None) -> _Plan:
    found = exif_orientation(picture) if orientation is None else orientation
    if picture.mode == "LAB":
        raise DataError("images in CIE Lab are not supported.", fix="Convert them to RGB first.")

    def decode() -> Image:
        picture.load()
        return upright(from_pillow(picture), found)

    header = Header(picture.height, picture.width, *_pillow_layout(picture.mode))
    return _Plan(header, found, picture.mode in ALPHA_MODES or "transparency" in picture.info, decode)


def _plan_jpeg(stream: BinaryIO, cover: tuple[int, int] | None) -> _Plan:
    head = stream.read(jpeg.HEAD)
    frame = jpeg.read_frame(head)
    if frame is None:
        return _plan_other_jpeg(stream, cover)
    reduction = jpeg.reduction(frame.height, frame.width, cover, frame.orientation)

    def decode() -> Image:
        data, image = head + stream.read(), None
        if data.endswith(jpeg.END):  # OpenCV need not notice what is cut short
            image = functional.decode(data, eight_bit=True, colour=frame.channels == 3, reduction=reduction)
        if image is None:
            return _plan_other_jpeg(stream, cover).decode()
        return upright(jpeg.trimmed(image, frame.height, frame.width, reduction), frame.orientation)

    return _Plan(Header(frame.height, frame.width, frame.channels, "uint8"), frame.orientation, False, decode)


def _plan_other_jpeg(stream: BinaryIO, cover: tuple[int, int] | None) -> _Plan:
    stream.seek(0)
    picture = JpegImagePlugin.jpeg_factory(stream)
    plan = _plan_pillow(picture)
    height, width = plan.header[:2]
    reduction = jpeg.reduction(height, width, cover, plan.orientation)

    def decode() -> Image:
        picture.draft(None, (width // reduction, height // reduction))
        picture.load()
        return upright(jpeg.trimmed(from_pillow(picture), height, width, reduction), plan.orientation)

    return plan._replace(decode=decode)


def _plan_tiff(stream: BinaryIO) -> _Plan:
    tags, several_pages = tiff.first_directory(stream)
    if not tiff.pillow_suffices(tags, several_pages):
        found = tiff.plan(stream)
        header = Header(found.height, found.width, found.channels, found.dtype)
        turned = found.orientation if 1 <= found.orientation <= 8 else 1
        return _Plan(header, turned, found.alpha, lambda: upright(tiff.decode(stream), turned))
    stream.seek(0)
    picture = TiffImagePlugin.TiffImageFile(stream)
    tagged = exif_orientation(picture)
    plan = _plan_pillow(picture, tagged)

    def decode() -> Image:
        picture.load()  # Pillow turns TIFF files itself, and then forgets the tag
        return upright(from_pillow(picture), exif_orientation(picture))

    size = plan.header._replace(height=int(tags[tiff.HEIGHT]), width=int(tags[tiff.WIDTH]))
    return plan._replace(header=size, decode=decode)


def _plan_png(stream: BinaryIO, head: bytes) -> _Plan:
    picture = PngImagePlugin.PngImageFile(stream)
    if "exif" not in picture.info and (late := _png_chunk(stream, b"eXIf")):
        picture.info["exif"] = b"Exif\0\0" + late
    orientation = exif_orientation(picture)
    depth, colour_type = head[24], head[25]
    if depth < 16:
        return _plan_pillow(picture, orientation)

    def decode() -> Image:
        _png_chunk(stream, b"", check=True)
        stream.seek(0)
        image = functional.decode(stream.read(), eight_bit=False)
        if image is None or image.dtype != np.uint16:
            raise DataError("the PNG is damaged.")
        return upright(image[:, :, 2::-1] if colour_type in (2, 6) else image[:, :, :1], orientation)

    header = Header(picture.height, picture.width, 3 if colour_type in (2, 6) else 1, "uint16")
    return _Plan(header, orientation, colour_type in (4, 6) or "transparency" in picture.info, decode)


def _png_chunk(stream: BinaryIO, wanted: bytes, check: bool = False) -> bytes | None:
    """The content of a chunk that may come after the pixels; with ``check``, all checksums and the end are verified."""
    here = stream.tell()
    stream.seek(len(_PNG))
    try:
        while len(prefix := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", prefix)
            if kind == wanted:
                return stream.read(length)
            if check:
                body, checksum = stream.read(length), stream.read(4)
                if zlib.crc32(kind + body).to_bytes(4, "big") != checksum:
                    raise DataError("the PNG is damaged.")
            else:
                stream.seek(length + 4, io.SEEK_CUR)
            if kind == b"IEND":
                return None
        if check:
            raise DataError("the PNG is cut short.")
        return None
    finally:
        stream.seek(here)
