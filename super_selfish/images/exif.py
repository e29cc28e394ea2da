"""EXIF orientation of images with sound or damaged metadata.

Pillow warns about damaged metadata without naming the file. Here, the damage becomes a note of the file.
"""

from __future__ import annotations

import struct
import warnings
from typing import NamedTuple

from PIL import Image as Pillow

_ORIENTATION, _SHORT, _LONG = 0x0112, 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # in bytes, by type of value

MESSAGES = ".*orrupt EXIF data|Tag data larger than file|Metadata Warning"
"""Regular expression of Pillow's messages about damaged metadata."""

warnings.filterwarnings("ignore", MESSAGES, UserWarning, r"PIL\.")


class Metadata(NamedTuple):
    """First directory of EXIF metadata.

    Attributes:
        orientation: The orientation as stored; None: there is none.
        damaged: Whether a part of the directory cannot be read.
    """

    orientation: int | None
    damaged: bool


def metadata_of(exif: bytes) -> Metadata:
    """Read the first directory of EXIF metadata, as far as it is not damaged."""
    data = exif.removeprefix(b"Exif\0\0")
    if not data.strip(b"\0"):
        return Metadata(None, False)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return Metadata(None, True)
    orientation, damaged = None, False
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length, target = struct.unpack_from(f"{order}HHII", data, place)
            size = _SIZES.get(kind, 0) * length
            damaged = damaged or (size > 4 and target + size > len(data))
            if tag == _ORIENTATION and kind in (_SHORT, _LONG):
                (orientation,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", data, place + 8)
    except struct.error:
        damaged = True
    return Metadata(orientation, damaged)


def exif_orientation(image: Pillow.Image) -> int:
    """Return the EXIF orientation of a Pillow image, 1 to 8; 1 if it has none."""
    found = _stored(image)
    value: object = found.orientation
    if value is None and not found.damaged:  # TIFF files store it in a tag, others perhaps in XMP
        try:  # the base class method: the PNG method decodes the whole image to find a late chunk
            value = Pillow.Image.getexif(image).get(_ORIENTATION, 1)
        except Exception:  # an image with damaged metadata can still be used
            return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def exif_notes(image: Pillow.Image) -> tuple[str, ...]:
    """Return a note if the EXIF metadata of a Pillow image is damaged."""
    found = _stored(image)
    if not found.damaged:
        return ()
    use = "ignored" if found.orientation is None else f"read up to its orientation, {found.orientation}"
    return (f"its EXIF metadata is damaged, and is {use}",)


def _stored(image: Pillow.Image) -> Metadata:
    exif = image.info.get("exif")
    return metadata_of(exif) if isinstance(exif, bytes) else Metadata(None, False)
