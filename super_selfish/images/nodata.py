"""Detection of pixels that a file declares as no data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from super_selfish.images.open_image import Mask


def equal_to(values: npt.NDArray[Any], nodata: float, colours: bool = False) -> Mask:
    """Return the mask of pixels that are equal to the no-data value.

    Args:
        values: Stored values, H×W×C.
        nodata: The no-data value; may be NaN.
        colours: Whether the channels form one colour; a pixel is then missing if all its channels equal ``nodata``.

    Returns:
        Boolean array H×W×C, or H×W×1 if ``colours`` is set.
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
    """Parse GDAL's no-data tag; None if it is not a number.

    Examples:
        >>> gdal_nodata("-9999 "), gdal_nodata("nan"), gdal_nodata("none")
        (-9999.0, nan, None)
    """
    words = str(text).replace("\0", " ").split()
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return None
