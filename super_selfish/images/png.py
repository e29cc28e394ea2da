"""Reader of PNG files: Pillow reads the header; OpenCV decodes, as Pillow would reduce 16-bit colour to 8 bits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import PngImagePlugin

from super_selfish.errors import DataError
from super_selfish.images import functional
from super_selfish.images.arrays import apply_orientation, from_pillow
from super_selfish.images.exif import exif_notes, exif_orientation
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, Header, OpenImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR_TYPE = 24, 25  # byte offsets in the file
_COLOUR, _WITH_ALPHA, _PALETTE = (2, 3, 6), (4, 6), 3


def open_png(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a PNG file, which is decoded at full size."""
    head = stream.read(_COLOUR_TYPE + 1)
    file = _header(stream)
    if "exif" not in file.info and (late := _late_exif(stream)):
        file.info["exif"] = b"Exif\0\0" + late
    orientation, notes = exif_orientation(file), exif_notes(file)
    colour = head[_COLOUR_TYPE] in _COLOUR
    header = Header(file.height, file.width, 3 if colour else 1, "uint16" if head[_DEPTH] == 16 else "uint8")
    left_out = int(getattr(file, "n_frames", 1)) - 1

    def decode() -> Image:
        image = functional.decode(_chunks(stream), colour)
        if image is None or image.dtype.name != header.dtype:
            raise DataError("the PNG file is damaged.")
        return apply_orientation(image, orientation)

    def decode_with_alpha() -> Image:
        if head[_COLOUR_TYPE] in _WITH_ALPHA:
            image = functional.decode(_chunks(stream), colour, alpha=True)
        elif head[_COLOUR_TYPE] == _PALETTE:
            chunks = io.BytesIO(_chunks(stream, (b"tRNS",)))
            image = from_pillow(PngImagePlugin.PngImageFile(chunks), alpha=True)
        else:  # one transparent colour, which Pillow compares at 8 bits and OpenCV ignores
            image = functional.decode(_chunks(stream), colour)
            image = None if image is None else _with_transparent(image, file.info["transparency"], head[_DEPTH])
        if image is None or image.dtype.name != header.dtype:
            raise DataError("the PNG file is damaged, or its transparency cannot be read.")
        return apply_orientation(image, orientation)

    if head[_COLOUR_TYPE] not in _WITH_ALPHA and "transparency" not in file.info:
        return OpenImage(header, orientation, 0, decode, left_out=left_out, notes=notes)
    return OpenImage(header, orientation, 1, decode, decode_with_alpha, left_out=left_out, notes=notes)


def _with_transparent(image: Image, transparent: int | tuple[int, ...], depth: int) -> Image:
    """Append an alpha channel: 0 where a pixel has the transparent colour, which is stored with ``depth`` bits."""
    white = np.iinfo(image.dtype).max
    colour = np.minimum(np.atleast_1d(transparent) * (white // ((1 << depth) - 1)), white)  # of 1 bit, Pillow gives 255
    alpha = np.where((image == colour).all(axis=2, keepdims=True), 0, white)
    return np.concatenate([image, alpha.astype(image.dtype)], axis=2)


def _header(stream: BinaryIO) -> PngImagePlugin.PngImageFile:
    stream.seek(0)
    try:
        return PngImagePlugin.PngImageFile(stream)
    except (ValueError, SyntaxError):  # Pillow rejects profiles and texts that are large or have a wrong checksum
        return PngImagePlugin.PngImageFile(io.BytesIO(_chunks(stream, (b"tRNS", b"eXIf", b"acTL"))))


def _late_exif(stream: BinaryIO) -> bytes | None:
    """Return the content of an EXIF chunk after the pixel data, which the standard allows."""
    stream.seek(len(SIGNATURE))
    while len(prefix := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", prefix)
        if kind == b"eXIf":
            return stream.read(length)
        stream.seek(length + 4, io.SEEK_CUR)
    return None


def _chunks(stream: BinaryIO, ancillary: tuple[bytes, ...] = ()) -> bytes:
    """Return the file without ancillary chunks, about which OpenCV may print warnings.

    Args:
        stream: Binary file.
        ancillary: Types of ancillary chunks to keep.

    Raises:
        DataError: If a checksum is wrong or the file is truncated, which OpenCV does not always report.
    """
    stream.seek(0)
    kept = [stream.read(len(SIGNATURE))]
    while len(prefix := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", prefix)
        chunk = prefix + stream.read(length + 4)
        critical = kind[:1].isupper()
        if critical or kind in ancillary:
            if zlib.crc32(memoryview(chunk)[4:-4]).to_bytes(4, "big") == chunk[-4:]:
                kept.append(chunk)
            elif critical:
                raise DataError("the PNG file is damaged.")
        if kind == b"IEND":
            return b"".join(kept)
    raise DataError("the PNG file is truncated.")
