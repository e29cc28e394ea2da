"""Pixels that are no measurements: those that a file declares to hold no data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from super_selfish.images.open_image import Mask


def equal_to(values: npt.NDArray[Any], nodata: float, colours: bool = False) -> Mask:
    """Where an image has the value that stands for "no data".

    Args:
        values: As stored: H×W×C.
        nodata: The value, NaN included.
        colours: Whether the channels are one colour together, which then has no data where all of them are equal to it.

    Returns:
        H×W×C, or H×W×1 of colours.
    """
    found: Mask
    if math.isnan(nodata):
        found = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
    elif values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = values == values.dtype.type(nodata)
    elif nodata.is_integer() and np.iinfo(values.dtype).min <= nodata <= np.iinfo(values.dtype).max:
        found = values == values.dtype.type(int(nodata))
    else:
        found = np.zeros(values.shape, np.bool_)
    return np.asarray(found.all(axis=2, keepdims=True)) if colours else found


def gdal_nodata(text: object) -> float | None:
    """The number in GDAL's tag for "no data", or None if it is no number.

    Examples:
        >>> gdal_nodata("-9999 "), gdal_nodata("nan"), gdal_nodata("none")
        (-9999.0, nan, None)
    """
    words = str(text).replace("\0", " ").split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None
