"""Reader of DICOM files.

The rescale slope and intercept (also of an enhanced file of one frame) or the modality LUT are applied, so CT images
are in Hounsfield units. MONOCHROME1 images, where large values are dark, are inverted. Palettes and YBR become RGB.
Display windows are ignored: pass ``value_range=`` to a supervisor to set the values of black and white. Padding is
marked as missing. Multi-frame files, and files with other attributes that change the meaning of pixel values, raise an
error.
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
    """Open a DICOM file, which is decoded at full size.

    Raises:
        DataError: If the file does not contain exactly one image, or its attributes are not supported.
    """
    import pydicom  # an optional dependency

    head = pydicom.dcmread(stream, stop_before_pixels=True)
    frames = int(getattr(head, "NumberOfFrames", 1) or 1)
    if frames != 1 or "Rows" not in head:
        what = f"it contains {frames} frames" if frames != 1 else "it contains no image"
        raise DataError(f"{what}.", fix="Save each frame as a separate file.")
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
    """Return the photometric interpretation."""
    return str(getattr(head, "PhotometricInterpretation", "")).strip()


def slope(head: Any) -> float:
    """Return the rescale slope, which stored values are multiplied by."""
    found = _rescale(head, "RescaleSlope")
    return 1.0 if found in (None, "") else float(found)


def intercept(head: Any) -> float:
    """Return the rescale intercept, which is added after the multiplication."""
    found = _rescale(head, "RescaleIntercept")
    return 0.0 if found in (None, "") else float(found)


def _rescale(head: Any, name: str) -> Any:
    """Return an attribute of the rescale transformation, which enhanced files store in their functional groups."""
    own = getattr(head, name, None)
    for group in _groups(head):
        for transformation in getattr(group, "PixelValueTransformationSequence", None) or ():
            own = getattr(transformation, name, None) if own in (None, "") else own
    return own


def _groups(head: Any) -> list[Any]:
    """Return the functional groups of the only frame."""
    names = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    return [group for name in names for group in (getattr(head, name, None) or ())[:1]]


def check_meaning(head: Any) -> None:
    """Check that the attributes of a file do not change the meaning of its pixel values in an unsupported way.

    Raises:
        DataError: If they do; the message names the attribute.
    """
    kind, samples = photometric(head), int(getattr(head, "SamplesPerPixel", 1))
    of_one = (*_GREY, _PALETTE)
    if kind not in (of_one if samples == 1 else _COLOURS) or samples not in (1, 3):
        raise DataError(
            "the photometric interpretation of the DICOM file is not supported.",
            expected=f"{', '.join(of_one)} with one sample per pixel, or {', '.join(_COLOURS)} with three",
            received=f"{kind or 'none'} with {samples} samples per pixel",
            fix="Convert the file to one of these.",
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
        problem = "MONOCHROME1 with float pixels"
    elif samples == 1 and _real_world(head) and _rescale(head, "RescaleSlope") is None and not _has_table(head):
        problem = "RealWorldValueMappingSequence without RescaleSlope"
    if problem is not None:
        raise DataError(
            "attributes of the DICOM file scale its pixel values in a way that is not supported.",
            received=problem,
            fix="Apply the scaling, and save the file with RescaleSlope and RescaleIntercept.",
        )


def _real_world(head: Any) -> bool:
    return any(getattr(part, "RealWorldValueMappingSequence", None) for part in (head, *_groups(head)))


def _has_table(head: Any) -> bool:
    return bool(getattr(head, "ModalityLUTSequence", None))


def _is_float(head: Any) -> bool:
    """Whether pixels are floats; integers of the same width have a pixel representation."""
    return int(head.BitsAllocated) == 64 or (int(head.BitsAllocated) == 32 and "PixelRepresentation" not in head)


def _dtype(head: Any) -> str:
    """Return the dtype of the image, or an empty string if it depends on the values."""
    if photometric(head) == _PALETTE:
        return "uint8"
    if _has_table(head) or int(head.BitsAllocated) > 16:
        return ""
    rescaled = (slope(head), intercept(head)) != (1.0, 0.0)
    if rescaled or int(getattr(head, "PixelRepresentation", 0)) == 1:
        return "float32"
    return "uint16" if int(head.BitsAllocated) > 8 else "uint8"


def pixels(file: Any) -> tuple[Image, Mask | None]:
    """Return the pixels of a file as H×W×C and the mask of padding pixels, or None if the file declares no padding.

    Raises:
        DataError: If the pixels are not an image.
    """
    conversions = _conversions()
    values = _stored(file)
    missing = _padding(values, file)
    missing = None if missing is None or missing.ndim != 2 else missing[:, :, None]
    kind = photometric(file)
    if kind == _PALETTE:
        colours = np.asarray(conversions.apply_color_lut(values, file))[:, :, :3]
        deep = colours.dtype.itemsize > 1 and _deepest(file) > 255
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


def _deepest(file: Any) -> int:
    """Return the largest entry of a palette; some files store entries of 8 bits in 16."""
    entries, first, _ = (int(number) for number in file.RedPaletteColorLookupTableDescriptor)
    places = np.clip(np.arange(entries or 1 << 16) + first, 0, (1 << 16) - 1).astype(np.uint16)
    return int(np.asarray(_conversions().apply_color_lut(places, file)).max())


def _narrowed(image: Image, dtype: str) -> Image:
    return image.astype(np.uint8) if dtype == "uint8" and int(image.max()) <= 255 else image


def _stored(file: Any) -> npt.NDArray[Any]:
    """Return the stored values without the unused high bits, where old files store overlays.

    Raises:
        DataError: If there are more pixels than one frame has.
    """
    values = np.asarray(file.pixel_array)
    if values.ndim != (2 if int(getattr(file, "SamplesPerPixel", 1)) == 1 else 3):
        raise DataError(
            f"it contains {len(values)} frames, but declares one.", fix="Save each frame as a separate file."
        )
    unused = 8 * values.dtype.itemsize - int(getattr(file, "BitsStored", file.BitsAllocated))
    if values.dtype.kind not in "iu" or int(file.BitsAllocated) == 1 or unused <= 0:
        return values
    return (values << unused) >> unused  # an arithmetic shift keeps the sign


def _padding(values: npt.NDArray[Any], file: Any) -> Mask | None:
    for name, limit in _PADDING:
        if getattr(file, name, None) is not None:
            first, last = getattr(file, name), getattr(file, limit, None)
            low, high = sorted(_as_stored(number, values.dtype) for number in (first, first if last is None else last))
            found: Mask = (values >= low) & (values <= high)
            return found
    return None


def _as_stored(number: Any, dtype: np.dtype[Any]) -> float:
    """Convert a padding value to the dtype of the pixels; some files store negative values as unsigned."""
    value = float(number)
    if dtype.kind == "i" and value > np.iinfo(dtype).max:
        value -= float(1 << 8 * dtype.itemsize)
    return value


def _rgb(values: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Convert colours to RGB; pydicom 3 and later does so on its own."""
    if kind in _YBR and _version() < 3:
        return np.asarray(_conversions().convert_color_space(values, kind, "RGB"))
    return values


def _version() -> int:
    import pydicom

    return int(pydicom.__version__.split(".")[0])


def _conversions() -> Any:
    """Return the pydicom module for pixel conversions."""
    return importlib.import_module("pydicom.pixels" if _version() >= 3 else "pydicom.pixel_data_handlers.util")
