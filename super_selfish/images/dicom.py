"""DICOM files: what a scanner measured, as an image.

Rescale slope and intercept are applied, which makes Hounsfield units of a CT's numbers; of MONOCHROME1, where large
numbers are dark, the grey is inverted. Windows for display are ignored: ``value_range=`` of a supervisor says what
becomes black and white. Files of several frames are refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from super_selfish.errors import DataError
from super_selfish.images.functional import Image

MARK = b"DICM"
OFFSET = 128


class Found(NamedTuple):
    """What a file holds, and how to read it."""

    height: int
    width: int
    channels: int
    dtype: str
    decode: Callable[[], Image]


def is_dicom(stream: BinaryIO) -> bool:
    """Whether a stream is a DICOM file; it is left at its beginning."""
    stream.seek(OFFSET)
    found = stream.read(len(MARK)) == MARK
    stream.seek(0)
    return found


def plan(stream: BinaryIO) -> Found:
    """The header of a file, and how to read its pixels.

    Raises:
        DataError: If pydicom is not installed, or the file holds no single image.
    """
    try:
        reader: Any = importlib.import_module("pydicom")
    except ImportError as error:
        raise DataError("DICOM files need pydicom.", fix='Install it: pip install "super-selfish[dicom]".') from error
    head = reader.dcmread(stream, stop_before_pixels=True)
    frames = int(getattr(head, "NumberOfFrames", 1) or 1)
    if frames != 1 or "Rows" not in head:
        what = f"it holds {frames} frames" if frames != 1 else "it holds no image"
        raise DataError(f"{what}.", fix="Write each frame into a file of its own.")
    channels = int(getattr(head, "SamplesPerPixel", 1))
    deep = int(head.BitsAllocated) > 8
    rescaled = (slope(head), intercept(head)) != (1.0, 0.0)
    signed = int(getattr(head, "PixelRepresentation", 0)) == 1
    dtype = "float32" if rescaled or signed else "uint16" if deep else "uint8"

    def decode() -> Image:
        stream.seek(0)
        return pixels(reader.dcmread(stream), dtype)

    return Found(int(head.Rows), int(head.Columns), channels, dtype, decode)


def slope(head: Any) -> float:
    """What stored numbers are multiplied by."""
    return float(getattr(head, "RescaleSlope", 1.0) or 1.0)


def intercept(head: Any) -> float:
    """What is then added."""
    return float(getattr(head, "RescaleIntercept", 0.0) or 0.0)


def pixels(file: Any, dtype: str) -> Image:
    """The pixels of a file as H×W×C."""
    values = np.asarray(file.pixel_array)
    if str(getattr(file, "PhotometricInterpretation", "")) == "MONOCHROME1":
        bits = int(getattr(file, "BitsStored", file.BitsAllocated))
        low = -(1 << (bits - 1)) if int(getattr(file, "PixelRepresentation", 0)) else 0
        values = (2 * low + (1 << bits) - 1) - values.astype(np.int64)
    if dtype == "float32":
        values = values.astype(np.float32) * np.float32(slope(file)) + np.float32(intercept(file))
    image = values.astype(dtype)
    return np.ascontiguousarray(image[:, :, None] if image.ndim == 2 else image)
