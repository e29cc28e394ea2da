"""DICOM files: what a scanner measured, as an image.

Rescale slope and intercept or the modality table are applied, which makes Hounsfield units of a CT's numbers; of
MONOCHROME1, where large numbers are dark, the grey is inverted; palettes and YBR become RGB. Windows for display are
ignored: ``value_range=`` of a supervisor says what becomes black and white. Padding is declared as missing. Files of
several frames are refused, and so is whatever else would change what numbers mean.
"""

from __future__ import annotations

import importlib
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from super_selfish.errors import DataError
from super_selfish.images.arrays import canonical
from super_selfish.images.functional import Image
from super_selfish.images.open_image import Cover, Header, Mask, OpenImage

_GREY = ("MONOCHROME1", "MONOCHROME2")
_YBR = ("YBR_FULL", "YBR_FULL_422")
_COLOURS = ("RGB", *_YBR, "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_PADDING = (
    ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
)


def open_dicom(stream: BinaryIO, cover: Cover) -> OpenImage:  # noqa: ARG001
    """Open a DICOM file; it is decoded at full size.

    Raises:
        DataError: If the file holds no single image, or its attributes give the numbers a meaning that is not known.
    """
    import pydicom  # an optional dependency

    head = pydicom.dcmread(stream, stop_before_pixels=True)
    frames = int(getattr(head, "NumberOfFrames", 1) or 1)
    if frames != 1 or "Rows" not in head:
        what = f"it holds {frames} frames" if frames != 1 else "it holds no image"
        raise DataError(f"{what}.", fix="Write each frame into a file of its own.")
    check_meaning(head)
    channels = 3 if photometric(head) == _PALETTE else int(getattr(head, "SamplesPerPixel", 1))
    header = Header(int(head.Rows), int(head.Columns), channels, _dtype(head))

    def decode() -> tuple[Image, Mask | None]:
        stream.seek(0)
        return pixels(pydicom.dcmread(stream))

    def decode_with_mask() -> tuple[Image, Mask]:
        image, missing = decode()
        return image, np.zeros((*image.shape[:2], 1), np.bool_) if missing is None else missing

    declares = any(first in head for first, _ in _PADDING)
    return OpenImage(header, 1, 0, lambda: decode()[0], decode_with_mask=decode_with_mask if declares else None)


def photometric(head: Any) -> str:
    """The photometric interpretation."""
    return str(getattr(head, "PhotometricInterpretation", "")).strip()


def slope(head: Any) -> float:
    """What stored numbers are multiplied by."""
    found = getattr(head, "RescaleSlope", None)
    return 1.0 if found in (None, "") else float(found)


def intercept(head: Any) -> float:
    """What is then added."""
    found = getattr(head, "RescaleIntercept", None)
    return 0.0 if found in (None, "") else float(found)


def check_meaning(head: Any) -> None:
    """Refuse files whose attributes change what numbers mean in a way that is not known here.

    Raises:
        DataError: With the attribute.
    """
    kind, samples = photometric(head), int(getattr(head, "SamplesPerPixel", 1))
    of_one = (*_GREY, _PALETTE)
    if kind not in (of_one if samples == 1 else _COLOURS) or samples not in (1, 3):
        raise DataError(
            "the photometric interpretation of the DICOM file is not supported.",
            expected=f"{', '.join(of_one)} of one sample, or {', '.join(_COLOURS)} of three",
            received=f"{kind or 'none'} of {samples} samples",
            fix="Convert it to one of these.",
        )
    problem = None
    if slope(head) == 0 or not np.isfinite([slope(head), intercept(head)]).all():
        problem = f"RescaleSlope={slope(head):g}, RescaleIntercept={intercept(head):g}"
    elif str(getattr(head, "PixelPresentation", "MONOCHROME")).strip() not in ("", "MONOCHROME", "TRUE_COLOR"):
        problem = f"PixelPresentation={head.PixelPresentation}"
    elif kind == "MONOCHROME2" and str(getattr(head, "PresentationLUTShape", "")).strip() == "INVERSE":
        problem = "PresentationLUTShape=INVERSE with MONOCHROME2"
    elif int(getattr(head, "HighBit", 0)) + 1 != int(getattr(head, "BitsStored", 1)) and not _is_float(head):
        problem = f"HighBit={head.HighBit} with BitsStored={head.BitsStored}"
    elif kind == "MONOCHROME1" and _is_float(head):
        problem = "MONOCHROME1 with pixels of floats"
    elif samples == 1 and _real_world(head) is not None and "RescaleSlope" not in head and not _has_table(head):
        problem = "RealWorldValueMappingSequence without RescaleSlope"
    if problem is not None:
        raise DataError(
            "attributes of the DICOM file scale its numbers in a way that is not supported.",
            received=problem,
            fix="Apply them, and write RescaleSlope and RescaleIntercept.",
        )


def _real_world(head: Any) -> Any:
    return getattr(head, "RealWorldValueMappingSequence", None) or None


def _has_table(head: Any) -> bool:
    return bool(getattr(head, "ModalityLUTSequence", None))


def _is_float(head: Any) -> bool:
    """Whether pixels are floats: integers of the same width say so by their representation."""
    return int(head.BitsAllocated) == 64 or (int(head.BitsAllocated) == 32 and "PixelRepresentation" not in head)


def _dtype(head: Any) -> str:
    """The type of the image; empty where the values decide."""
    if photometric(head) == _PALETTE:
        return "uint8"
    if _has_table(head) or int(head.BitsAllocated) > 16:
        return ""
    rescaled = (slope(head), intercept(head)) != (1.0, 0.0)
    if rescaled or int(getattr(head, "PixelRepresentation", 0)) == 1:
        return "float32"
    return "uint16" if int(head.BitsAllocated) > 8 else "uint8"


def pixels(file: Any) -> tuple[Image, Mask | None]:
    """The pixels of a file as H×W×C, and which of them are padding, if the file declares any.

    Raises:
        DataError: If they are no image.
    """
    conversions = _conversions()
    values = _stored(file)
    missing = _padding(values, file)
    missing = None if missing is None or missing.ndim != 2 else missing[:, :, None]
    kind = photometric(file)
    if kind == _PALETTE:
        colours = np.asarray(conversions.apply_color_lut(values, file))[:, :, :3]
        deep = colours.dtype.itemsize > 1 and int(colours.max()) > 255
        return canonical((colours >> 8 if deep else colours).astype(np.uint8)), missing
    if kind in _COLOURS:
        return canonical(_rgb(values, kind)), missing
    if int(file.BitsAllocated) == 1:
        return canonical(values.astype(np.bool_)), missing
    if kind == "MONOCHROME1":
        bits = int(getattr(file, "BitsStored", file.BitsAllocated))
        low = -(1 << (bits - 1)) if int(getattr(file, "PixelRepresentation", 0)) else 0
        values = (2 * low + (1 << bits) - 1) - values.astype(np.int64)
    if _has_table(file):
        return canonical(np.asarray(conversions.apply_modality_lut(values, file))), missing
    if (slope(file), intercept(file)) != (1.0, 0.0):
        values = values.astype(np.float64) * slope(file) + intercept(file)
    image = canonical(values)
    return (image.astype(np.float32) if _dtype(file) == "float32" else _narrowed(image, _dtype(file))), missing


def _narrowed(image: Image, dtype: str) -> Image:
    return image.astype(np.uint8) if dtype == "uint8" and int(image.max()) <= 255 else image


def _stored(file: Any) -> npt.NDArray[Any]:
    """Stored numbers without the bits above them, in which old files keep overlays."""
    values = np.asarray(file.pixel_array)
    unused = 8 * values.dtype.itemsize - int(getattr(file, "BitsStored", file.BitsAllocated))
    if values.dtype.kind not in "iu" or int(file.BitsAllocated) == 1 or unused <= 0:
        return values
    return (values << unused) >> unused  # arithmetic: the sign stays


def _padding(values: npt.NDArray[Any], file: Any) -> Mask | None:
    for name, limit in _PADDING:
        if getattr(file, name, None) is not None:
            first, last = getattr(file, name), getattr(file, limit, None)
            low, high = sorted(_as_stored(number, values.dtype) for number in (first, first if last is None else last))
            found: Mask = (values >= low) & (values <= high)
            return found
    return None


def _as_stored(number: Any, dtype: np.dtype[Any]) -> float:
    """A number as the pixels hold it: some files write a negative one as if it had no sign."""
    value = float(number)
    if dtype.kind == "i" and value > np.iinfo(dtype).max:
        value -= float(1 << 8 * dtype.itemsize)
    return value


def _rgb(values: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Colours as RGB: from version 3 on pydicom converts them itself."""
    if kind in _YBR and _version() < 3:
        return np.asarray(_conversions().convert_color_space(values, kind, "RGB"))
    return values


def _version() -> int:
    import pydicom

    return int(pydicom.__version__.split(".")[0])


def _conversions() -> Any:
    """The module of pydicom that converts pixels."""
    return importlib.import_module("pydicom.pixels" if _version() >= 3 else "pydicom.pixel_data_handlers.util")
