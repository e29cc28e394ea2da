"""DICOM files: what a scanner measured, as an image.

Rescale slope and intercept are applied, which makes Hounsfield units of a CT's numbers; of MONOCHROME1, where large
numbers are dark, the grey is inverted. Windows for display are ignored: ``value_range=`` of a supervisor says what
becomes black and white. Files of several frames are refused.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from super_selfish.errors import DataError
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, Header, OpenImage


def open_dicom(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a DICOM file; it is decoded at full size.

    Raises:
        DataError: If the file holds no single image.
    """
    import pydicom  # an optional dependency

    head = pydicom.dcmread(stream, stop_before_pixels=True)
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
        return pixels(pydicom.dcmread(stream), dtype)

    return OpenImage(Header(int(head.Rows), int(head.Columns), channels, dtype), 1, False, decode)


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
