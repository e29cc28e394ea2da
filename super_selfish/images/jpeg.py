"""What a JPEG file says of itself, read off its markers: a tenth of the time that Pillow takes to open it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy.typing as npt

HEAD = 1 << 17
"""Bytes from the start of a file in which its frame is found, unless something is unusual."""

START = b"\xff\xd8"
"""What a file begins with."""

END = b"\xff\xd9"
"""What a complete file ends in."""

_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, with Huffman codes
_OTHER_FRAMES = set(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _APP1, _APP2 = 0xDA, 0xE1, 0xE2
_ORIENTATION, _SHORT = 0x0112, 3
_ENTRIES = 512  # of a directory, that are looked at


class Frame(NamedTuple):
    """Size and kind of the picture, as it is stored.

    Attributes:
        height: In px, before the orientation is applied.
        width: In px.
        channels: 1 or 3.
        orientation: Of EXIF, 1 to 8.
    """

    height: int
    width: int
    channels: int
    orientation: int


def read_frame(data: bytes) -> Frame | None:
    """The frame of an ordinary 8-bit grey or colour JPEG; None for whatever is out of the ordinary.

    Args:
        data: The content of the file, or its beginning.
    """
    try:
        return _read_frame(data)
    except (struct.error, IndexError):
        return None


def reduction(height: int, width: int, cover: tuple[int, int] | None, orientation: int) -> int:
    """The part of its size, as 1, 2, 4 or 8, that a picture may be decoded at.

    Args:
        height: As stored, in px.
        width: As stored, in px.
        cover: Height and width that it has to have at least once it is upright; None: all of it.
        orientation: Of EXIF.
    """
    if cover is None:
        return 1
    least = cover if orientation < 5 else cover[::-1]
    enough = min(height // least[0], width // least[1])
    return next(factor for factor in (8, 4, 2, 1) if factor <= max(1, enough))


def trimmed(image: npt.NDArray[Any], height: int, width: int, reduction: int) -> npt.NDArray[Any]:
    """A reduced picture without a last row and column that show less than others, as sides are rounded up."""
    return image[: round(height / reduction), : round(width / reduction)]


def _read_frame(data: bytes) -> Frame | None:
    place, orientation = 2, 1
    while True:
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = place + 4
        if marker in _FRAMES:
            depth, height, width, channels = struct.unpack_from(">BHHB", data, body)
            ordinary = depth == 8 and height and width and channels in (1, 3)
            return Frame(height, width, channels, orientation) if ordinary else None
        if marker in _OTHER_FRAMES or marker == _SCAN or length < 2 or not 0xC0 <= marker <= 0xFE:
            return None
        if marker == _APP2 and data[body : body + 4] == b"MPF\0":  # several pictures in one file
            return None
        if marker == _APP1 and data[body : body + 6] == b"Exif\0\0":
            orientation = _orientation(data[body + 6 : place + 2 + length])
            if orientation == 0:
                return None
        place += 2 + length


def _orientation(tiff: bytes) -> int:
    """The orientation in a TIFF header; 1 where none is given, 0 where it is damaged or odd."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 0
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(min(count, _ENTRIES)):
        tag, kind, length, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
        if tag == _ORIENTATION:
            return value if kind == _SHORT and length == 1 and 1 <= value <= 8 else 0
    return 1
